# segpipe for prediction on a CPU, without a network; docs/container.md describes it.
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
# The prediction tests the installation and compiles the modules that it imports; compiling all would add 30 MB.
RUN python -m venv --without-pip /opt/segpipe \
    && pip --python /opt/segpipe/bin/python install --no-cache-dir --no-compile --constraint constraints.txt . \
    && /opt/segpipe/bin/segpipe predict image=data/samples/synthetic_mel.jpg report=html output=/tmp/sample

FROM python:3.11-slim
COPY --from=build /opt/segpipe /opt/segpipe
RUN useradd --create-home --uid 1000 segpipe && install --directory --owner=segpipe /data
ENV PATH=/opt/segpipe/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /data
ENTRYPOINT ["segpipe"]
CMD ["--help"]
