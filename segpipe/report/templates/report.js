"use strict";
{
  const ROWS_PER_PAGE = 100;
  const data = JSON.parse(document.getElementById("data").textContent);
  const classes = new Map(data.classes.map((item) => [item.code, item]));
  const sources = new Map(data.sources.map((item) => [item.code, item.name]));
  const [form, table, count] = ["filters", "table", "count"].map((id) => document.getElementById(id));
  const [previous, next, pageText] = ["previous", "next", "page"].map((id) => document.getElementById(id));
  const [more, turns] = ["more", "pages"].map((id) => document.getElementById(id));
  const headers = [...table.tHead.rows[0].cells];
  const tiles = [...document.querySelectorAll("[data-filter]")];
  // Cells and headings of the confusion matrix; each shows the images of a true diagnosis, a predicted one, or both.
  const cells = [...document.querySelectorAll(".matrix button")];
  const collator = new Intl.Collator("en", { numeric: true });
  const start = { sort: data.sort.key, descending: data.sort.descending, page: 0 };
  const state = { ...start };
  let shown = [];

  const element = (name, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };
  const picture = (folder, row, alt) => {
    const lazy = { loading: "lazy", decoding: "async", width: 84, height: 63 };
    return element("img", { ...lazy, alt, src: `${folder}/${row.picture}` });
  };
  const linked = (row, ...children) => element("a", { href: row.page }, ...children);
  // A line may end behind a folder; a long name is shortened in its middle, since beginnings and ends distinguish names.
  const LONGEST = 24;
  const shortened = (text) => {
    const letters = [...text];
    return letters.length > LONGEST ? `${letters.slice(0, 13).join("")}\u2026${letters.slice(-10).join("")}` : text;
  };
  const pathParts = (path) => {
    const parts = path.split(/(?<=[/])/);
    return parts.flatMap((part, index) => {
      const className = index < parts.length - 1 ? "folder nowrap" : "nowrap";
      return [element("span", { className }, shortened(part)), element("wbr")];
    });
  };
  const formatted = (value) => (value === null ? "\u2013" : value[1]);
  const sign = () => element("span", { className: "sign", title: "malignant" }, `${data.sign} `);

  // Content and sort key of each column; a column without a sort key is not sortable.
  const columns = {
    thumbnail: { cell: (row) => linked(row, picture(data.folders.thumbnails, row, `Image ${row.path}`)) },
    path: {
      cell: (row) => Object.assign(linked(row, ...pathParts(row.path)), { title: row.path }),
      order: (row) => row.path,
    },
    diagnosis: {
      cell: (row) => {
        const { name, malignant } = classes.get(row.diagnosis);
        const unsure = row.unsure ? [element("span", { className: "badge unsure" }, `unsure: ${row.unsure}`), " "] : [];
        return element("span", {}, ...unsure, ...(malignant ? [sign(), name] : [name]));
      },
      order: (row) => classes.get(row.diagnosis).name,
    },
    truth: {
      cell: (row) => {
        if (row.truth === null) return "\u2013";
        const [code, verdict, rank] = row.truth;
        const { name, malignant } = classes.get(code);
        const mark = `${data.verdicts[verdict]} ${verdict}`;
        if (verdict === "right") return element("span", { className: "right nowrap" }, mark);
        const missed = rank === 2 ? [" ", element("span", { className: "badge" }, "missed")] : [];
        const wrong = element("b", { className: "wrong nowrap" }, mark);
        return element("span", {}, wrong, ": ", ...(malignant ? [sign(), name] : [name]), ...missed);
      },
      order: (row) => row.truth?.[2] ?? null,
    },
    confidence: { cell: (row) => formatted(row.confidence), order: (row) => row.confidence[0] },
    malignant: { cell: (row) => formatted(row.malignant), order: (row) => row.malignant?.[0] ?? null },
    suspicion: {
      cell: (row) => {
        const className = row.suspicious ? "badge" : "gray";
        return element("span", { className, title: row.suspicion.join(", ") }, row.suspicious ? "suspicious" : "no");
      },
      order: (row) => Number(row.suspicious),
    },
    trust: {
      cell: (row) => {
        if (row.trust === null) return "\u2013";
        const [, color, mark, sentences] = row.trust;
        const title = sentences.join(". ");
        return element("span", { className: "trust", title }, element("b", { className: color }, `${mark} ${color}`));
      },
      order: (row) => row.trust?.[0] ?? null,
    },
    dice: { cell: (row) => formatted(row.dice), order: (row) => row.dice?.[0] ?? null },
    source: { cell: (row) => sources.get(row.source), order: (row) => sources.get(row.source) },
    spread: { cell: (row) => formatted(row.spread), order: (row) => row.spread?.[0] ?? null },
    heatmap: { cell: (row) => (row.heatmap ? linked(row, picture(data.folders.heatmaps, row, `Heatmap of ${row.path}`)) : "\u2013") },
  };
  const numbers = new Set(["confidence", "malignant", "dice", "spread"]);
  // Whether a row passes each check box.
  const checks = {
    wrong: (row) => row.truth?.[1] === "wrong",
    malignant: (row) => row.truly_malignant,
    missed: (row) => row.truth?.[2] === 2,
    suspicious: (row) => row.suspicious,
    unsure: (row) => row.unsure !== "",
  };

  const compare = (one, other) => {
    const { order } = columns[state.sort];
    const [a, b] = [order(one), order(other)];
    // Missing values come last in both directions.
    if (a === null || b === null) return (a === null) - (b === null);
    const difference = typeof a === "string" ? collator.compare(a, b) : a - b;
    return state.descending ? -difference : difference;
  };

  const chosen = () => {
    const { diagnosis, truth, source, least, most, text } = form.elements;
    const checked = Object.keys(checks).filter((name) => form.elements[name]?.checked);
    const pattern = text.value.toLowerCase();
    const [low, high] = [least, most].map((field) => (field.value === "" ? null : Number(field.value) / 100));
    return (row) =>
      (diagnosis.value === "" || row.diagnosis === diagnosis.value) &&
      (!truth?.value || row.truth?.[0] === truth.value) &&
      (source.value === "" || row.source === source.value) &&
      (low === null || row.confidence[0] >= low) &&
      (high === null || row.confidence[0] <= high) &&
      row.path.toLowerCase().includes(pattern) &&
      checked.every((name) => checks[name](row));
  };

  const line = (row) => {
    const made = element("tr", { role: "row" });
    for (const { dataset, textContent } of headers) {
      const isNumber = numbers.has(dataset.key) ? " number" : "";
      const cell = element("td", { role: "cell", className: dataset.key + isNumber }, columns[dataset.key].cell(row));
      if (dataset.key !== "thumbnail" && dataset.key !== "path") cell.dataset.label = textContent;
      made.append(cell);
    }
    return made;
  };

  const isChosen = ({ dataset }) =>
    (form.elements.truth.value || "") === (dataset.truth ?? "") && form.elements.diagnosis.value === (dataset.diagnosis ?? "");

  const show = () => {
    const pages = Math.max(1, Math.ceil(shown.length / ROWS_PER_PAGE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const first = state.page * ROWS_PER_PAGE;
    const lines = shown.slice(first, first + ROWS_PER_PAGE).map(line);
    if (!lines.length) {
      const message = data.rows.length ? "No images match these filters." : "No results.";
      lines.push(element("tr", { role: "row" }, element("td", { role: "cell", className: "empty", colSpan: headers.length }, message)));
    }
    table.tBodies[0].replaceChildren(...lines);
    const number = (value) => value.toLocaleString("en");
    count.textContent = `${number(shown.length)} of ${number(data.rows.length)} ${data.rows.length === 1 ? "image" : "images"}`;
    pageText.textContent = `page ${number(state.page + 1)} of ${number(pages)}`;
    previous.disabled = state.page === 0;
    next.disabled = state.page === pages - 1;
    turns.hidden = pages === 1;
    for (const tile of tiles) tile.setAttribute("aria-pressed", form.elements[tile.dataset.filter].checked);
    for (const cell of cells) cell.setAttribute("aria-pressed", isChosen(cell));
    for (const header of headers) {
      if (!header.hasAttribute("aria-sort")) continue;
      const direction = state.descending ? "descending" : "ascending";
      header.setAttribute("aria-sort", header.dataset.key === state.sort ? direction : "none");
    }
    keep();
  };

  const update = () => {
    shown = data.rows.filter(chosen()).sort(compare);
    show();
  };

  // The state is kept in the fragment of the address, so going back from an image restores it.
  const keep = () => {
    const parameters = new URLSearchParams();
    for (const field of form.elements) {
      const value = field.type === "checkbox" ? (field.checked ? "on" : "") : field.value;
      if (field.name && value) parameters.set(field.name, value);
    }
    if (state.sort !== start.sort || state.descending !== start.descending) parameters.set("sort", (state.descending ? "-" : "") + state.sort);
    if (state.page) parameters.set("page", state.page + 1);
    history.replaceState(null, "", parameters.size ? `#${parameters}` : location.pathname + location.search);
  };
  const recall = () => {
    const parameters = new URLSearchParams(location.hash.slice(1));
    for (const field of form.elements) {
      if (!parameters.has(field.name)) continue;
      if (field.type === "checkbox") field.checked = true;
      else field.value = parameters.get(field.name);
    }
    const sort = parameters.get("sort") ?? "";
    const key = sort.replace(/^-/, "");
    if (headers.some((header) => header.dataset.key === key && header.hasAttribute("aria-sort"))) {
      Object.assign(state, { sort: key, descending: sort.startsWith("-") });
    }
    state.page = (Number(parameters.get("page")) || 1) - 1;
  };

  const turn = (step) => {
    state.page += step;
    show();
    count.scrollIntoView();
  };

  const reveal = () => {
    state.page = 0;
    update();
    count.scrollIntoView();
  };
  for (const tile of tiles) {
    tile.addEventListener("click", () => {
      const box = form.elements[tile.dataset.filter];
      const { checked } = box;
      form.reset();
      box.checked = !checked;
      reveal();
    });
  }
  for (const cell of cells) {
    cell.addEventListener("click", () => {
      const chosenBefore = isChosen(cell);
      form.reset();
      if (!chosenBefore) {
        form.elements.truth.value = cell.dataset.truth ?? "";
        form.elements.diagnosis.value = cell.dataset.diagnosis ?? "";
      }
      reveal();
    });
  }

  for (const header of headers) {
    header.querySelector("button")?.addEventListener("click", () => {
      const { key } = header.dataset;
      // Words start with A, numbers with the largest, and what says how good a result is with the worst.
      const first = (numbers.has(key) && key !== "dice") || ["truth", "suspicion", "trust"].includes(key);
      Object.assign(state, { descending: state.sort === key ? !state.descending : first, sort: key, page: 0 });
      update();
    });
  }
  form.addEventListener("input", () => {
    state.page = 0;
    update();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => {
    state.page = 0;
    // The fields are cleared only after the event.
    setTimeout(update);
  });
  previous.addEventListener("click", () => turn(-1));
  next.addEventListener("click", () => turn(1));
  recall();
  more.open = matchMedia("(min-width: 76rem)").matches || [...more.querySelectorAll("select, input")].some(({ value }) => value);
  update();
}
