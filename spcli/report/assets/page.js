// The page: the chain of layers, the inspector and the tables, over what the report holds.
import { kernel, receptiveField, rowOf, rulebook, rulesAt, rulesPerRow, swapped, unpackSites } from "./rules.js";
import { View, extent } from "./view.js";

const data = JSON.parse(document.getElementById("data").textContent);
const INPUT = -1;
const AXES = { 1: [], 2: ["y", "x"], 3: ["z", "y", "x"] };
const VIRIDIS = ["#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725"].map((text) =>
  [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16) / 255),
);
const LISTED = 200;
const state = { layer: INPUT, row: -1, books: new Map(), centres: new Map(), view: null };
const $ = (id) => document.getElementById(id);

// ---- Elements and numbers. Text only ever enters the page as text.

function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

const whole = (number) => (number === null ? "-" : number.toLocaleString("en"));
const short = (number) =>
  number === null ? "-" : Number(number.toPrecision(3)).toLocaleString("en", { notation: "compact", maximumSignificantDigits: 3 });
const decimal = (number) => (number === null ? "-" : number.toLocaleString("en", { maximumFractionDigits: 2 }));
const percent = (number) => (number === null ? "-" : (100 * number).toLocaleString("en", { maximumSignificantDigits: 4 }) + " %");
const list = (numbers) => numbers.join(", ");

/** A table whose columns sort. A column is {title, value(row), text?(value), button?(row)}; text sorts as text. */
function table(columns, rows) {
  const body = element("tbody");
  const isText = columns.map(({ value }) => rows.some((row) => typeof value(row) === "string"));
  const fill = (sorted) =>
    body.replaceChildren(...sorted.map((row) => element("tr", {}, ...columns.map((column, at) => {
      const shown = String((column.text ?? String)(column.value(row)));
      const action = column.button?.(row);
      const inner = action ? element("button", { type: "button", textContent: shown, onclick: action }) : shown;
      return element("td", { className: isText[at] ? "text" : "" }, inner);
    }))));
  const heads = columns.map(({ title, value }, at) => {
    const head = element("th", { scope: "col", className: isText[at] ? "text" : "" });
    head.append(element("button", { type: "button", textContent: title, onclick: () => {
      const falling = head.ariaSort === "descending" ? 1 : head.ariaSort === "ascending" ? -1 : isText[at] ? 1 : -1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling < 0 ? "descending" : "ascending");
      fill([...rows].sort((one, other) => falling * compare(value(one), value(other))));
    } }));
    return head;
  });
  fill(rows);
  return element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body);
}

function compare(one, other) {
  if (Array.isArray(one)) return one.map((value, at) => compare(value, other[at])).find(Boolean) ?? 0;
  return typeof one === "string" ? one.localeCompare(other, "en", { numeric: true }) : (one ?? -1) - (other ?? -1);
}

// ---- What the data say: levels, values, maps. Layer -1 stands for the input.

const levelOf = (value) => data.levels[data.values[value]];
const valueOf = (layer) => (layer === INPUT ? 0 : data.layers[layer].value);
const nameOf = (layer) => (layer === INPUT ? "input" : data.layers[layer].name);
const sitesOf = (value) => levelOf(value).columns;
const siteAt = (value, row) => sitesOf(value).map((column) => column[row]);

/** The rules of a map, made when first asked for; null where the page lacks the sites of an end. */
function book(map, inverse = false) {
  const { in: input, out: output } = data.maps[map];
  const [inputs, outputs] = [data.levels[input].columns, data.levels[output].columns];
  if (!inputs || !outputs) return null;
  if (!state.books.has(map)) state.books.set(map, rulebook(data.maps[map], inputs, outputs));
  return inverse ? swapped(state.books.get(map)) : state.books.get(map);
}

const layerBook = (layer) => (layer === INPUT || data.layers[layer].map === null ? null : book(data.layers[layer].map, data.layers[layer].inverse));

/** Centres of a level's sites, x y z; null where nothing can be drawn. */
function centresOf(level) {
  if (!level.columns || level.shape.length < 2) return null;
  if (!state.centres.has(level)) {
    const centres = new Float32Array(3 * level.rows);
    const columns = level.columns.slice(1).reverse();
    for (let row = 0; row < level.rows; row++)
      for (let axis = 0; axis < 3; axis++) {
        // Scans of a batch lie beside each other.
        const start = level.start[axis] + (axis === 1 ? data.beside * level.columns[0][row] : 0);
        centres[3 * row + axis] = start + level.step[axis] * (columns[axis]?.[row] ?? 0);
      }
    state.centres.set(level, centres);
  }
  return state.centres.get(level);
}

// ---- The chain.

function chain() {
  const most = (key) => Math.max(1, ...data.layers.map((layer) => layer[key]));
  const [sites, macs] = [Math.max(most("out_sites"), data.levels[0].rows), most("macs")];
  const bar = (share, kind) => {
    const fill = element("i");
    fill.style.width = `${Math.max(100 * share, share ? 1 : 0)}%`;
    return element("div", { className: `bar ${kind}` }, fill);
  };
  const number = (title, text) => element("span", { className: "number" }, element("span", { textContent: title }), text);
  const first = { type: "", in_channels: null, out_channels: data.in_channels, out_sites: data.levels[0].rows, out_density: data.density };
  const cards = [first, ...data.layers].map((layer, at) => {
    const channels = at ? `${layer.in_channels} \u2192 ${layer.out_channels}` : `${layer.out_channels} channels`;
    const card = element("button", { type: "button", className: "card", title: nameOf(at - 1), onclick: () => select(at - 1) },
      element("b", { textContent: nameOf(at - 1) }),
      element("span", { textContent: at ? layer.type : "active sites" }),
      element("span", { textContent: channels + (layer.key ? `, ${layer.key}` : "") }),
      number("sites", whole(layer.out_sites)), bar(layer.out_sites / sites, "sites"),
      number("density", percent(layer.out_density)));
    if (at) card.append(number("rules", whole(layer.pairs)), number("MACs", short(layer.macs)), bar(layer.macs / macs, "macs"));
    return element("li", {}, card);
  });
  $("chain").replaceChildren(...cards);
  $("chain").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: "previousElementSibling", ArrowRight: "nextElementSibling" }[event.key];
    const next = step && event.target.closest("li")?.[step];
    if (next) { next.firstChild.focus(); event.preventDefault(); }
  });
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

// ---- Colour.

function ramp(share) {
  const low = Number(property("ramp-low"));
  const place = (low + (1 - low) * Math.min(Math.max(share, 0), 1)) * (VIRIDIS.length - 1) * (low ? 1 : 0.94);
  const at = Math.min(Math.floor(place), VIRIDIS.length - 2);
  return VIRIDIS[at].map((start, channel) => start + (VIRIDIS[at + 1][channel] - start) * (place - at));
}

/** A colour or number of the style sheet. */
const property = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const css = (colour) => `rgb(${colour.map((channel) => Math.round(255 * channel)).join(" ")})`;

/** Draw the points of the chosen layer in their colours. */
function paint() {
  const level = levelOf(valueOf(state.layer));
  const here = centresOf(level);
  const rules = layerBook(state.layer);
  const byRules = $("colour").value === "rules" && rules;
  const values = !here ? [] : byRules ? rulesPerRow(rules, level.rows) : here.filter((_, at) => at % 3 === 2);
  const sorted = Float32Array.from(values).sort();
  const [low, high] = [0.01, 0.99].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
  const unit = byRules ? "" : data.metres ? " m" : "";
  $("low").textContent = sorted.length ? `${byRules ? "rules" : "height"} ${decimal(low)}${unit}` : "";
  $("high").textContent = sorted.length ? decimal(high) + unit : "";
  $("ramp").style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map((share) => css(ramp(share))).join(", ")})`;
  if (!state.view) return;
  $("no-view").hidden = Boolean(here);
  $("no-view").textContent = here ? "" : absent(level);
  const colours = new Float32Array(3 * values.length);
  const table = Array.from({ length: 257 }, (_, at) => ramp(at / 256).map((channel) => channel ** 2.2));
  values.forEach((value, row) => colours.set(table[Math.round(256 * Math.min(Math.max((value - low) / (high - low || 1), 0), 1))], 3 * row));
  state.view.background(property("stage"));
  state.view.show(here ?? new Float32Array(0), colours, level.cell);
}

const absent = (level) => level.shape.length < 2
  ? `${nameOf(state.layer)} has no spatial axis left to draw.`
  : `The ${whole(level.rows)} sites of ${nameOf(state.layer)} are not in this report (--layer, --max-sites).`;

// ---- The picked site.

/** Pick a row of a layer's output; -1 clears. */
function pick(row, focus = false) {
  state.row = row;
  inspect();
  if (focus) look();
}

function look() {
  const level = levelOf(valueOf(state.layer));
  if (!state.view || !centresOf(level) || state.row < 0) return;
  const { picked, field } = lit();
  const { low, high } = extent(field);
  state.view.focus(picked, Math.max(8 * Math.max(...level.cell), 1.6 * Math.hypot(...high.map((value, axis) => value - low[axis]))));
}

/** The operations that read a value through rules: their layer, their rules, and the value they make. */
const readers = (value) =>
  data.operations.flatMap(({ layer, output, reads }) =>
    reads.filter((read) => read.kind === "map" && read.value === value).map((read) => ({ layer, output, rules: book(read.map, read.inverse), map: read.map })));

const sourceOf = (layer) =>
  data.operations.filter((operation) => operation.layer === layer).flatMap(({ reads }) => reads).find(({ kind }) => kind === "map").value;

/** The layer whose output a value is, to go there; undefined for a value inside a layer. */
const layerAt = (value) => (value === 0 ? INPUT : data.layers.findIndex((layer) => layer.value === value));

function inspect() {
  const value = valueOf(state.layer);
  const level = levelOf(value);
  $("focus").disabled = state.row < 0;
  $("site").placeholder = `${["batch", ...AXES[level.shape.length] ?? []].slice(level.shape.length > 1 ? 1 : 0).join(",")} or a row of ${nameOf(state.layer)}`;
  state.view?.fade(state.row >= 0);
  if (state.row < 0) {
    state.view?.mark([]);
    const text = level.columns ? "Click a site, or type one above." : absent(level);
    $("picked").replaceChildren(element("p", { className: "hint", textContent: text }));
    return;
  }
  const rules = layerBook(state.layer);
  const into = rules ? rulesAt(rules, "outRows", state.row) : [];
  const feeds = readers(value).filter((reader) => reader.rules).map((reader) => ({ ...reader, found: rulesAt(reader.rules, "inRows", state.row) }));
  const field = receptiveField(data.operations, value, state.row, sitesOf, book);
  Object.assign(state, { into, feeds, field });
  $("picked").replaceChildren(...description(value, rules, into, feeds, field));
  light();
}

function description(value, rules, into, feeds, field) {
  const level = levelOf(value);
  const here = centresOf(level);
  const site = siteAt(value, state.row);
  const at = here && data.metres ? `, centre (x, y, z) ${list([...here.subarray(3 * state.row, 3 * state.row + 3)].map(decimal))} m` : "";
  const parts = [
    element("h3", { textContent: `${nameOf(state.layer)}, site ${list(site)}` }),
    element("p", { textContent: `(${["batch", ...AXES[level.shape.length] ?? []].join(", ")}), row ${whole(state.row)}${at}` }),
  ];
  const layer = data.layers[state.layer];
  if (rules) {
    const source = sourceOf(state.layer);
    parts.push(
      element("h3", { textContent: `${into.length} of ${data.maps[layer.map].kernel_size.reduce((a, b) => a * b)} offsets have a rule into it` }),
      ruleTable(into, layer.map, "in", source, layerAt(source)),
    );
  } else if (layer) parts.push(element("p", { textContent: layer.map === null ? "This layer has no rulebook; rows stay where they are." : "Its rules join sites that are not in this report." }));
  for (const { layer: reader, found, map, output } of feeds)
    parts.push(
      element("h3", { textContent: `${found.length} rule${found.length === 1 ? "" : "s"} out of it, in ${nameOf(reader)}` }),
      ruleTable(found, map, "out", output, reader),
    );
  if (field && valueOf(state.layer)) parts.push(...fieldText(field));
  if (!field) parts.push(element("p", { textContent: "Its receptive field passes sites that are not in this report." }));
  return parts;
}

/** Rules as a table; a row leads to its other end where that is a layer's output. */
function ruleTable(rules, map, end, value, layer) {
  const offsets = kernel(data.maps[map]);
  const go = ({ [end]: row }) => layer === undefined || layer < INPUT ? null : () => { select(layer); pick(row, true); };
  const made = table([
    { title: "tap", value: ({ tap }) => tap },
    { title: "offset", value: ({ tap }) => offsets[tap].offset, text: list },
    { title: "count", value: ({ count }) => count },
    { title: `${end} row`, value: (rule) => rule[end], button: go },
    { title: `${end} site`, value: (rule) => siteAt(value, rule[end]), text: list },
  ], rules);
  made.className = `rules-${end}`;
  return made;
}

function fieldText(field) {
  const columns = sitesOf(0);
  const axes = ["batch", ...AXES[columns.length - 1] ?? []];
  const spans = axes.slice(1).map((axis, at) => {
    let [low, high] = [Infinity, -Infinity];
    for (const row of field) [low, high] = [Math.min(low, columns[at + 1][row]), Math.max(high, columns[at + 1][row])];
    return field.length ? `${axis} ${low} to ${high}` : "";
  });
  const share = percent(field.length / columns[0].length);
  const rows = [...field.subarray(0, LISTED)].map((row) => ({ row, site: siteAt(0, row) }));
  const details = element("details", {}, element("summary", { textContent: field.length > LISTED ? `its first ${LISTED} sites` : "its sites" }), table([
    { title: "row", value: ({ row }) => row, button: ({ row }) => () => { select(INPUT); pick(row, true); } },
    { title: axes.join(", "), value: ({ site }) => site, text: list },
  ], rows));
  return [
    element("h3", { textContent: `Receptive field: ${whole(field.length)} input sites` }),
    element("p", { textContent: `${share} of the input; ${spans.filter(Boolean).join(", ")}` }),
    details,
  ];
}

/** Centres of what belongs to the picked site, by kind. */
function lit() {
  const gather = (value, rows) => {
    const from = centresOf(levelOf(value)) ?? [];
    return Float32Array.from([...rows].flatMap((row) => [...from.slice(3 * row, 3 * row + 3)]));
  };
  const source = state.into.length ? sourceOf(state.layer) : 0;
  return {
    picked: gather(valueOf(state.layer), [state.row]),
    source,
    inputs: gather(source, state.into.map((rule) => rule.in)),
    outputs: state.feeds.map(({ output, found }) => ({ output, centres: gather(output, found.map((rule) => rule.out)) })),
    field: gather(0, state.field ?? []),
  };
}

function light() {
  if (!state.view || !centresOf(levelOf(valueOf(state.layer)))) return;
  const { picked, source, inputs, outputs, field } = lit();
  const spokes = Float32Array.from({ length: 2 * inputs.length }, (_, at) => (at % 6 < 3 ? inputs[3 * Math.floor(at / 6) + at % 6] : picked[at % 3]));
  const cell = (value, factor) => levelOf(value).cell.map((length) => factor * length);
  const mark = (name, kind, centres, size) => ({ kind, centres, cell: size, colour: property(name), shown: name === "picked" || document.querySelector(`#legend [name=${name}]`).checked });
  state.view.mark([
    mark("field", "dots", field, cell(0, 0.7)),
    mark("inputs", "boxes", inputs, cell(source, 0.8)),
    mark("inputs", "lines", spokes),
    ...outputs.map(({ output, centres }) => mark("outputs", "outlines", centres, cell(output, 0.94))),
    mark("picked", "boxes", picked, cell(valueOf(state.layer), 0.4)),
    mark("picked", "outlines", picked, cell(valueOf(state.layer), 1.04)),
  ].filter(({ shown, centres }) => shown && centres.length));
}

/** The row that the text in the form names in the chosen level, -1 where no site is active there. */
function parsed(text) {
  const numbers = text.split(/[\s,]+/).filter(Boolean).map(Number);
  const columns = sitesOf(valueOf(state.layer));
  if (!columns || !numbers.length || !numbers.every(Number.isInteger)) return -1;
  if (numbers.length === 1) return numbers[0] >= 0 && numbers[0] < columns[0].length ? numbers[0] : -1;
  if (numbers.length === columns.length - 1) numbers.unshift(0);
  return numbers.length === columns.length ? rowOf(columns, numbers) : -1;
}

// ---- Tables.

function tables() {
  $("layers").replaceChildren(table([
    { title: "layer", value: ({ name }) => name, button: (row) => () => select(data.layers.indexOf(row)) },
    { title: "type", value: ({ type }) => type },
    { title: "rulebook", value: ({ key }) => key ?? "" },
    { title: "channels", value: ({ in_channels, out_channels }) => [in_channels, out_channels], text: (pair) => pair.join(" \u2192 ") },
    { title: "sites in", value: ({ in_sites }) => in_sites, text: whole },
    { title: "sites out", value: ({ out_sites }) => out_sites, text: whole },
    { title: "out/in", value: ({ dilation_ratio }) => dilation_ratio, text: decimal },
    { title: "shape out", value: ({ out_spatial_shape }) => out_spatial_shape, text: (shape) => shape.join(" \u00d7 ") },
    { title: "density", value: ({ out_density }) => out_density, text: percent },
    { title: "rules", value: ({ pairs }) => pairs, text: whole },
    { title: "rules/out", value: ({ pairs_per_output }) => pairs_per_output.mean, text: decimal },
    { title: "most", value: ({ pairs_per_output }) => pairs_per_output.max, text: whole },
    { title: "MACs", value: ({ macs }) => macs, text: short },
    { title: "dense MACs", value: ({ dense_macs }) => dense_macs, text: short },
    { title: "saved", value: ({ mac_saving }) => mac_saving, text: percent },
    { title: "parameters", value: ({ parameters }) => parameters, text: whole },
    { title: "MB", value: ({ bytes }) => bytes / 1e6, text: decimal },
  ], data.layers));
  const kind = ({ submanifold, transposed }) => (submanifold ? "submanifold" : transposed ? "transposed" : "regular");
  const rules = ({ pairs_per_offset: counts }) => counts.reduce((sum, count) => sum + count, 0);
  $("rulebooks").replaceChildren(table([
    { title: "rulebook", value: ({ key }) => key },
    { title: "layers", value: ({ layers }) => layers.join(", ") },
    { title: "kind", value: kind },
    ...["kernel_size", "stride", "padding", "dilation"].map((name) => ({ title: name.replace("_size", ""), value: (map) => map[name], text: list })),
    { title: "sites in", value: (map) => data.levels[map.in].rows, text: whole },
    { title: "sites out", value: (map) => data.levels[map.out].rows, text: whole },
    { title: "rules", value: rules, text: whole },
    { title: "rules/out", value: (map) => rules(map) / (data.levels[map.out].rows || 1), text: decimal },
  ], data.maps));
}

function offsets() {
  const layer = data.layers[state.layer];
  const map = layer && layer.map !== null ? data.maps[layer.map] : null;
  if (!map) {
    $("offsets-of").textContent = `${nameOf(state.layer)} has no rulebook; choose a layer that has one.`;
    $("offsets").replaceChildren();
    return;
  }
  const outputs = data.levels[map.out].rows;
  const total = map.pairs_per_offset.reduce((sum, count) => sum + count, 0);
  const axes = AXES[map.kernel_size.length].join(", ");
  const made = layerBook(state.layer);
  const same = made && map.pairs_per_offset.every((count, tap) => made.splits[tap + 1] - made.splits[tap] === count);
  const check = made ? `; the rules made in this page ${same ? "are as many at every offset" : "DIFFER from these"}` : "";
  $("offsets-of").textContent = `${map.key}: ${whole(total)} rules by centred offset (${axes})${check}.`;
  $("offsets").replaceChildren(table([
    { title: "tap", value: ({ tap }) => tap },
    { title: `offset ${axes}`, value: ({ offset }) => offset, text: list },
    { title: "rules", value: ({ count }) => count, text: whole },
    { title: "of all rules", value: ({ count }) => (total ? count / total : null), text: percent },
    { title: "of output sites", value: ({ count }) => (outputs ? count / outputs : null), text: percent },
  ], kernel(map).map(({ offset }, tap) => ({ tap, offset, count: map.pairs_per_offset[tap] }))));
}

// ---- Start.

function listen() {
  $("theme").onclick = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  $("colour").onchange = () => { paint(); state.view?.fade(state.row >= 0); };
  $("reset").onclick = () => state.view?.reset();
  $("focus").onclick = look;
  $("clear").onclick = () => { $("site").value = ""; pick(-1); };
  $("legend").onchange = () => state.row >= 0 && light();
  $("find").onsubmit = (event) => {
    event.preventDefault();
    const row = parsed($("site").value);
    pick(row, true);
    if (row < 0) $("picked").replaceChildren(element("p", { textContent: `No active site ${$("site").value} in ${nameOf(state.layer)}.` }));
  };
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  paint();
  inspect();
}

function makeView() {
  try {
    state.view = new View($("canvas"), (row) => pick(row));
  } catch {
    $("no-view").hidden = false;
    $("no-view").textContent = "This browser offers no WebGL, so there is no 3-D view; everything else works.";
  }
}

async function start() {
  const { totals, points } = data;
  $("summary").textContent = [
    data.config, points ? `${whole(points.read)} points` : "", `${whole(data.levels[0].rows)} sites`,
    `${totals.layers} layer${totals.layers === 1 ? "" : "s"}`, `${whole(totals.pairs)} rules`, `${short(totals.macs)} MACs (${percent(totals.mac_saving)} of a dense network's saved)`,
  ].filter(Boolean).join(" \u00b7 ");
  $("made").textContent = `${data.source}${data.sha256 ? `, SHA-256 ${data.sha256}` : ""}; made by spcli ${data.version}. Sites are batch, z, y, x.`;
  for (const level of data.levels) level.columns = level.sites === null ? null : await unpackSites(level.sites, level.rows, 1 + level.shape.length);
  makeView();
  chain();
  tables();
  listen();
  document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  select(data.show);
  state.view?.resize();
  state.view?.reset();
  // For the console: report.pick(layer name, site or row); report.pixelOf(row) says where a row is drawn.
  globalThis.report = {
    pick(name, site) {
      select(data.layers.findIndex((layer) => layer.name === name));
      $("site").value = String(site);
      $("find").requestSubmit();
    },
    pixelOf: (row) => state.view.pixelOf(row),
  };
  document.documentElement.dataset.ready = "yes";
}

start();
