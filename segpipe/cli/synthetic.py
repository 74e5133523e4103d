"""`segpipe synthetic`: sample images, drawn, with masks and labels."""

from omegaconf import DictConfig

from segpipe.cli.call import output_folder, say
from segpipe.config.values import check_values
from segpipe.io.output import check_output


def run(config: DictConfig) -> None:
    """Draw the samples of a call."""
    check_values(config)
    output = output_folder(config)
    check_output(output, overwrite=False)

    from segpipe.data.synthetic.dataset import write_samples

    write_samples(output, seed=config.seed)
    say(f"samples in {output}")
