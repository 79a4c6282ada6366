// The page: the chain of layers, the inspector and the tables, over what the report holds.
import { kernel, receptiveField, rowOf, rulebook, rulesAt, rulesPerRow, swapped, unpackSites } from "./rules.js";
import { View, extent } from "./view.js";

const data = JSON.parse(document.getElementById("data").textContent);
const INPUT = -1; // Stands for a layer's number: the network's input.
const AXES = { 1: [], 2: ["y", "x"], 3: ["z", "y", "x"] };
const VIRIDIS = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"].map((text) =>
  [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16) / 255),
);
const LISTED = 200;
const state = { layer: INPUT, row: -1, books: new Map(), centres: new Map(), view: null };
const $ = (id) => document.getElementById(id);

// ---- Elements and numbers. Text only ever enters the page as text.

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const text = (name, textContent, className = "") => element(name, { textContent, className });
const number = (value, options) => value.toLocaleString("en", options);
const FORMATS = {
  text: String,
  whole: (value) => number(value),
  short: (value) => number(value, { notation: "compact", maximumSignificantDigits: 3 }),
  decimal: (value) => number(value, { maximumFractionDigits: 2 }),
  percent: (value) => (0.9999 < value && value < 1 ? "> 99.99 %" : `${number(100 * value, { maximumSignificantDigits: 4 })} %`),
  list: (values) => values.join(", "),
  sizes: (values) => values.join(" \u00d7 "),
};
const shown = (kind, value) => (value === null ? "-" : FORMATS[kind](value));

/** A table that sorts by a click on a title. `links` gives, by column, what a click on a cell of a row does. */
function table({ columns, rows }, links = {}) {
  const body = element("tbody");
  const isText = columns.map((_, at) => typeof rows[0]?.[at] === "string");
  const cell = (row, kind, at) => {
    const words = shown(kind, row[at]);
    const inner = links[at] ? element("button", { type: "button", textContent: words, onclick: () => links[at](row) }) : words;
    return element("td", { className: isText[at] ? "text" : "" }, inner);
  };
  const fill = (sorted) =>
    body.replaceChildren(...sorted.map((row) => element("tr", {}, ...columns.map(([, kind], at) => cell(row, kind, at)))));
  const sort = (head, at) => {
    const order = head.ariaSort ? (head.ariaSort === "ascending" ? -1 : 1) : isText[at] ? 1 : -1;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order > 0 ? "ascending" : "descending");
    fill([...rows].sort((one, other) => order * compare(one[at], other[at])));
  };
  const heads = columns.map(([title], at) => {
    const head = element("th", { scope: "col", className: isText[at] ? "text" : "" });
    head.append(element("button", { type: "button", textContent: title, onclick: () => sort(head, at) }));
    return head;
  });
  fill(rows);
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
}

function compare(one, other) {
  if (Array.isArray(one)) return one.map((value, at) => compare(value, other[at])).find(Boolean) ?? 0;
  return typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : (one ?? -1) - (other ?? -1);
}

// ---- What the data say: levels are sets of sites; every value lies over one, every layer makes a value.

const levelOf = (value) => data.levels[data.values[value]];
const valueOf = (layer) => (layer === INPUT ? 0 : data.layers[layer].value);
const nameOf = (layer) => (layer === INPUT ? "input" : data.layers[layer].name);
const sitesOf = (value) => levelOf(value).columns;
const siteAt = (value, row) => sitesOf(value).map((column) => column[row]);
const axesOf = (level) => AXES[level.shape.length] ?? [];
const current = () => levelOf(valueOf(state.layer));

/** The rules of a map, made when first asked for; null where the page lacks the sites of an end. */
function book(map, inverse = false) {
  const [inputs, outputs] = ["in", "out"].map((end) => data.levels[data.maps[map][end]].columns);
  if (!inputs || !outputs) return null;
  if (!state.books.has(map)) state.books.set(map, rulebook(data.maps[map], inputs, outputs));
  return inverse ? swapped(state.books.get(map)) : state.books.get(map);
}

const mapOf = (layer) => (layer === INPUT ? null : data.layers[layer].map);
const layerBook = (layer) => (mapOf(layer) === null ? null : book(mapOf(layer), data.layers[layer].inverse));

/** How operations read values through rules: {layer, value, output, map, inverse}. */
const passages = data.operations.flatMap(({ layer, output, reads }) =>
  reads.filter(({ kind }) => kind === "map").map((read) => ({ layer, output, ...read })),
);

/** Centres of a level's sites, x y z; null where nothing can be drawn. */
function centresOf(level) {
  if (!level.columns || level.shape.length < 2) return null;
  if (!state.centres.has(level)) {
    const columns = level.columns.slice(1).reverse();
    const centres = new Float32Array(3 * level.rows);
    for (let row = 0; row < level.rows; row++)
      for (let axis = 0; axis < 3; axis++) {
        const beside = axis === 1 ? data.beside * level.columns[0][row] : 0; // scans of a batch
        centres[3 * row + axis] = level.start[axis] + beside + level.step[axis] * (columns[axis]?.[row] ?? 0);
      }
    state.centres.set(level, centres);
  }
  return state.centres.get(level);
}

// ---- The chain.

function chain() {
  const input = { out_channels: data.in_channels, out_sites: data.levels[0].rows, out_density: data.density };
  const layers = [input, ...data.layers];
  const most = (key) => Math.max(1, ...layers.map((layer) => layer[key] ?? 0));
  const line = (title, words) => element("span", { className: "number" }, text("span", title), words);
  const bar = (key, layer) => {
    const fill = element("i");
    fill.style.width = `${(100 * layer[key]) / most(key)}%`;
    return element("div", { className: `bar ${key}` }, fill);
  };
  const cards = layers.map((layer, at) => {
    const channels = at ? `${layer.in_channels} \u2192 ${layer.out_channels}` : `${layer.out_channels} channels`;
    const card = element("button", { type: "button", className: "card", title: nameOf(at - 1), onclick: () => select(at - 1) },
      text("b", nameOf(at - 1)), text("span", layer.type ?? "active sites"), text("span", channels + (layer.key ? `, ${layer.key}` : "")),
      line("sites", shown("whole", layer.out_sites)), bar("out_sites", layer), line("density", shown("percent", layer.out_density)));
    if (at) card.append(line("rules", shown("whole", layer.pairs)), line("MACs", shown("short", layer.macs)), bar("macs", layer));
    return element("li", {}, card);
  });
  $("chain").replaceChildren(...cards);
  $("chain").onkeydown = (event) => {
    const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
    event.target.closest("li")?.[step]?.firstChild.focus();
  };
}

/** Show a layer's output sites; keeps the camera where it is. */
function select(layer) {
  [state.layer, state.row] = [layer, -1];
  [...$("chain").children].forEach((item, at) => item.firstChild.setAttribute("aria-pressed", at - 1 === layer));
  const chosen = $("chain").children[layer + 1];
  $("chain").scrollLeft = chosen.offsetLeft - ($("chain").clientWidth - chosen.clientWidth) / 2;
  paint();
  offsets();
  inspect();
}

/** The offsets of the layer's rulebook, and whether the rules made here are as many as the run's. */
function offsets() {
  const map = mapOf(state.layer);
  const made = map === null ? null : book(map);
  const same = made && data.maps[map].pairs_per_offset.every((count, tap) => made.splits[tap + 1] - made.splits[tap] === count);
  const check = made ? `; the rules made in this page ${same ? "are as many at every offset" : "DIFFER from these"}` : "";
  $("offsets-of").textContent = map === null ? `${nameOf(state.layer)} has no rulebook.` : `${data.maps[map].key}, by centred offset${check}.`;
  $("offsets").replaceChildren(...(map === null ? [] : [table(data.tables.offsets[map])]));
}

// ---- Colour.

/** A colour or number of the style sheet. */
const property = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Viridis, without the end that the background is close to. */
function ramp(share) {
  const low = Number(property("ramp-low"));
  const place = (low + (1 - low) * share) * (VIRIDIS.length - 1) * (low ? 1 : 0.94);
  const at = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[at].map((start, channel) => start + (VIRIDIS[at + 1][channel] - start) * (place - at));
}

/** Draw the points of the chosen layer in their colours. */
function paint() {
  const here = centresOf(current());
  const rules = $("colour").value === "rules" && layerBook(state.layer);
  const values = !here ? [] : rules ? rulesPerRow(rules, current().rows) : here.filter((_, at) => at % 3 === 2);
  const sorted = Float32Array.from(values).sort();
  const [low, high] = [0.01, 0.99].map((share) => sorted[Math.round(share * (sorted.length - 1))] ?? 0);
  const unit = data.metres && !rules ? " m" : "";
  $("low").textContent = `${rules ? "rules" : "height"} ${FORMATS.decimal(low)}${unit}`;
  $("high").textContent = FORMATS.decimal(high) + unit;
  const steps = Array.from({ length: 257 }, (_, at) => ramp(at / 256));
  const stops = [0, 64, 128, 192, 256].map((at) => `rgb(${steps[at].map((channel) => Math.round(255 * channel)).join(" ")})`);
  $("ramp").style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  $("no-view").hidden = Boolean(state.view && here);
  $("no-view").textContent = here ? "This browser offers no WebGL, so there is no 3-D view; everything else works." : absent();
  const colours = new Float32Array(3 * values.length);
  values.forEach((value, row) => {
    const share = Math.min(Math.max((value - low) / (high - low || 1), 0), 1);
    colours.set(steps[Math.round(256 * share)].map((channel) => channel ** 2.2), 3 * row); // sRGB to linear light
  });
  state.view?.background(property("stage"));
  state.view?.show(here ?? new Float32Array(0), colours, current().cell);
}

const absent = () =>
  current().shape.length < 2
    ? `${nameOf(state.layer)} has no spatial axis left to draw.`
    : `The ${FORMATS.whole(current().rows)} sites of ${nameOf(state.layer)} are not in this report (--layer, --max-sites).`;

// ---- The picked site.

/** Pick a row of the chosen layer's output; -1 clears. */
function pick(row, focus = false) {
  state.row = row;
  inspect();
  if (focus) look();
}

/** Go to a row of another layer. */
function go(layer, row) {
  select(layer);
  pick(row, true);
}

function look() {
  if (!state.view || !centresOf(current()) || state.row < 0) return;
  const { picked, field } = lit();
  const { low, high } = extent(field);
  state.view.focus(picked, Math.max(8 * Math.max(...current().cell), 1.6 * Math.hypot(...high.map((value, axis) => value - low[axis]))));
}

function inspect() {
  const axes = axesOf(current());
  $("focus").disabled = state.row < 0;
  $("site").placeholder = `${axes.length ? axes.join(",") : "batch"} or a row of ${nameOf(state.layer)}`;
  state.view?.fade(state.row >= 0);
  state.view?.mark([]);
  if (state.row < 0) {
    $("picked").replaceChildren(text("p", current().columns ? "Click a site, or type one above." : absent(), "hint"));
    return;
  }
  const value = valueOf(state.layer);
  const rules = layerBook(state.layer);
  state.into = rules ? rulesAt(rules, "outRows", state.row) : [];
  state.feeds = passages
    .filter((passage) => passage.value === value && book(passage.map))
    .map((passage) => ({ ...passage, found: rulesAt(book(passage.map, passage.inverse), "inRows", state.row) }));
  state.field = receptiveField(data.operations, value, state.row, sitesOf, book);
  $("picked").replaceChildren(...description(value, rules));
  light();
}

function description(value, rules) {
  const here = centresOf(current())?.subarray(3 * state.row, 3 * state.row + 3);
  const place = here && data.metres ? `, centre (x, y, z) ${[...here].map(FORMATS.decimal).join(", ")} m` : "";
  const parts = [
    text("h3", `${nameOf(state.layer)}, site ${siteAt(value, state.row).join(", ")}`),
    text("p", `(${["batch", ...axesOf(current())].join(", ")}), row ${FORMATS.whole(state.row)}${place}`),
  ];
  const map = mapOf(state.layer);
  if (rules) {
    const source = passages.find(({ layer }) => layer === state.layer).value;
    parts.push(
      text("h3", `${state.into.length} of ${rules.splits.length - 1} offsets have a rule into it`),
      ruleTable(state.into, map, "in", source, source === 0 ? INPUT : data.layers.findIndex((layer) => layer.value === source)),
    );
  } else if (state.layer !== INPUT)
    parts.push(text("p", map === null ? "This layer has no rulebook." : "Its rules join sites that are not in this report."));
  for (const { layer, found, map: through, output } of state.feeds)
    parts.push(
      text("h3", `${found.length} rule${found.length === 1 ? "" : "s"} out of it, in ${nameOf(layer)}`),
      ruleTable(found, through, "out", output, layer),
    );
  if (state.field && value) parts.push(...fieldText());
  if (!state.field) parts.push(text("p", "Its receptive field passes sites that are not in this report."));
  return parts;
}

/** Rules as a table; a row's number leads to their other end. */
function ruleTable(rules, map, end, value, layer) {
  const offset = kernel(data.maps[map]);
  const rows = rules.map((rule) => [rule.tap, offset[rule.tap].offset, rule.count, rule[end], siteAt(value, rule[end])]);
  const columns = [["tap", "text"], ["offset", "list"], ["count", "text"], [`${end} row`, "text"], [`${end} site`, "list"]];
  const made = table({ columns, rows }, layer < INPUT ? {} : { 3: (row) => go(layer, row[3]) });
  made.className = `rules-${end}`;
  return made;
}

function fieldText() {
  const columns = sitesOf(0);
  const spans = axesOf(data.levels[0]).map((axis, at) => {
    const cells = state.field.map((row) => columns[at + 1][row]).sort();
    return cells.length ? `; ${axis} ${cells[0]} to ${cells.at(-1)}` : "";
  });
  const rows = [...state.field.subarray(0, LISTED)].map((row) => [row, siteAt(0, row)]);
  const title = state.field.length > LISTED ? `its first ${LISTED} sites` : "its sites";
  const list = table({ columns: [["row", "text"], ["site", "list"]], rows }, { 0: ([row]) => go(INPUT, row) });
  return [
    text("h3", `Receptive field: ${FORMATS.whole(state.field.length)} input sites`),
    text("p", `${shown("percent", state.field.length / columns[0].length)} of the input${spans.join("")}`),
    element("details", {}, text("summary", title), list),
  ];
}

/** Centres of what belongs to the picked site. */
function lit() {
  const gather = (value, rows) => {
    const from = centresOf(levelOf(value)) ?? [];
    return Float32Array.from([...rows].flatMap((row) => [...from.slice(3 * row, 3 * row + 3)]));
  };
  const source = passages.find(({ layer }) => layer === state.layer)?.value ?? 0;
  return {
    source,
    picked: gather(valueOf(state.layer), [state.row]),
    inputs: gather(source, state.into.map((rule) => rule.in)),
    outputs: state.feeds.map(({ output, found }) => ({ output, centres: gather(output, found.map((rule) => rule.out)) })),
    field: gather(0, state.field ?? []),
  };
}

function light() {
  if (!state.view || !centresOf(current()) || state.row < 0) return;
  const { picked, source, inputs, outputs, field } = lit();
  const value = valueOf(state.layer);
  const spokes = Float32Array.from({ length: 2 * inputs.length }, (_, at) =>
    at % 6 < 3 ? inputs[3 * Math.floor(at / 6) + (at % 6)] : picked[at % 3]);
  const wanted = (name) => document.querySelector(`#legend [name=${name}]`)?.checked ?? true;
  const mark = (name, kind, centres, level, factor) =>
    wanted(name) && centres.length ? [{ kind, centres, colour: property(name), cell: levelOf(level).cell.map((length) => factor * length) }] : [];
  state.view.mark([
    ...mark("field", "dots", field, 0, 0.7),
    ...mark("inputs", "boxes", inputs, source, 0.8),
    ...mark("inputs", "lines", spokes, source, 1),
    ...outputs.flatMap(({ output, centres }) => mark("outputs", "outlines", centres, output, 0.94)),
    ...mark("picked", "boxes", picked, value, 0.4),
    ...mark("picked", "outlines", picked, value, 1.04),
  ]);
}

/** The row that the form's text names in the chosen level, -1 where no site is active there. */
function parsed(words) {
  const numbers = words.split(/[\s,]+/).filter(Boolean).map(Number);
  const columns = current().columns;
  if (!columns || !numbers.length || !numbers.every(Number.isInteger)) return -1;
  if (numbers.length === 1) return numbers[0] >= 0 && numbers[0] < current().rows ? numbers[0] : -1;
  if (numbers.length === columns.length - 1) numbers.unshift(0);
  return numbers.length === columns.length ? rowOf(columns, numbers) : -1;
}

// ---- Start.

function listen() {
  $("theme").onclick = () => {
    document.documentElement.dataset.theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    paint();
    inspect();
  };
  $("colour").onchange = () => {
    paint();
    inspect();
  };
  $("reset").onclick = () => state.view?.reset();
  $("focus").onclick = look;
  $("clear").onclick = () => pick(-1);
  $("legend").onchange = light;
  $("find").onsubmit = (event) => {
    event.preventDefault();
    pick(parsed($("site").value), true);
    if (state.row < 0) $("picked").replaceChildren(text("p", `No active site ${$("site").value} in ${nameOf(state.layer)}.`));
  };
}

async function start() {
  const { totals, points, levels } = data;
  $("summary").textContent = [
    data.config, points ? `${FORMATS.whole(points.read)} points` : "", `${FORMATS.whole(levels[0].rows)} sites`, `${totals.layers} layers`,
    `${FORMATS.whole(totals.pairs)} rules`, `${FORMATS.short(totals.macs)} MACs, ${shown("percent", totals.mac_saving)} of a dense network's saved`,
  ].filter(Boolean).join(" \u00b7 ");
  $("made").textContent = `${data.source}${data.sha256 ? `, SHA-256 ${data.sha256}` : ""}; made by spcli ${data.version}. Sites are batch, z, y, x.`;
  for (const level of levels) level.columns = level.sites === null ? null : await unpackSites(level.sites, level.rows, 1 + level.shape.length);
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const byName = (name) => data.layers.findIndex((layer) => layer.name === name);
  chain();
  $("layers").replaceChildren(table(data.tables.layers, { 0: ([name]) => select(byName(name)) }));
  $("rulebooks").replaceChildren(table(data.tables.rulebooks));
  listen();
  try {
    state.view = new View($("canvas"), pick);
  } catch {
    state.view = null; // paint() says so
  }
  select(data.show);
  state.view?.resize();
  state.view?.reset();
  // For the console: report.pick(layer name, site or row); report.pixelOf(row) says where a row is drawn.
  globalThis.report = {
    pick(name, site) {
      select(byName(name));
      $("site").value = String(site);
      $("find").requestSubmit();
    },
    pixelOf: (row) => state.view.pixelOf(row),
  };
  document.documentElement.dataset.ready = "yes";
}

start();
