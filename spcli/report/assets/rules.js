// Sites and rules. Only sites are stored in the page; every rule follows from them and the pair equation.

/** A level's sites as one Int32Array a column (batch, z, y, x): differences by row, in byte planes, deflated. */
export async function unpackSites(text, rows, columns) {
  const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  return Array.from({ length: columns }, (_, column) => {
    const values = new Int32Array(rows);
    const plane = (number, row) => bytes[(4 * column + number) * rows + row] << (8 * number);
    for (let row = 0, sum = 0; row < rows; row++) {
      sum = (sum + (plane(0, row) | plane(1, row) | plane(2, row) | plane(3, row))) | 0;
      values[row] = sum;
    }
    return values;
  });
}

/** Kernel indices in tap order, the last axis fastest, and their centred offsets. */
export function kernel({ kernel_size: size }) {
  let indices = [[]];
  for (const length of size)
    indices = indices.flatMap((head) => Array.from({ length }, (_, index) => [...head, index]));
  return indices.map((index) => ({ index, offset: index.map((k, axis) => k - ((size[axis] - 1) >> 1)) }));
}

/**
 * All rules of a map in canonical order: by tap, then by output row.
 *
 * `fixed = stride * moving - padding + dilation * k` names one site of the other end for each site of the moving one
 * (outputs, or inputs of a transposed convolution), and keeps the order of sites. So a tap is a merge of two sorted
 * lists, and its rules rise at both ends.
 */
export function rulebook(map, inputs, outputs) {
  const [moving, fixed] = map.transposed ? [inputs, outputs] : [outputs, inputs];
  const axes = map.kernel_size.length;
  const found = kernel(map).map(({ index }) => {
    const shift = index.map((k, axis) => map.dilation[axis] * k - map.padding[axis]);
    return merge(moving, fixed, map.stride, shift, axes);
  });
  const splits = new Int32Array(found.length + 1);
  found.forEach(([rows], tap) => (splits[tap + 1] = splits[tap] + rows.length));
  const join = (end) => {
    const joined = new Int32Array(splits[found.length]);
    found.forEach((rows, tap) => joined.set(rows[end], splits[tap]));
    return joined;
  };
  const [movingRows, fixedRows] = [join(0), join(1)];
  return map.transposed
    ? { splits, inRows: movingRows, outRows: fixedRows }
    : { splits, inRows: fixedRows, outRows: movingRows };
}

function merge(moving, fixed, stride, shift, axes) {
  const [count, most] = [moving[0].length, fixed[0].length];
  const [left, right] = [new Int32Array(Math.min(count, most)), new Int32Array(Math.min(count, most))];
  let size = 0;
  for (let row = 0, at = 0; row < count && at < most; row++) {
    for (; at < most; at++) {
      let order = fixed[0][at] - moving[0][row];
      for (let axis = 0; order === 0 && axis < axes; axis++)
        order = fixed[axis + 1][at] - (stride[axis] * moving[axis + 1][row] + shift[axis]);
      if (order < 0) continue;
      if (order === 0) {
        left[size] = row;
        right[size++] = at;
      }
      break;
    }
  }
  return [left.slice(0, size), right.slice(0, size)];
}

/** The same rules with their ends swapped, as an inverse layer runs them. */
export const swapped = ({ splits, inRows, outRows }) => ({ splits, inRows: outRows, outRows: inRows });

/** The first number from `low` to `high` that `isBefore` is false for, where it is true for none after it. */
function firstNot(isBefore, low, high) {
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isBefore(middle)) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The rules that end (`outRows`) or begin (`inRows`) at a row; at most one a tap, since each tap's rows rise. */
export function rulesAt({ splits, ...ends }, end, row) {
  const rules = [];
  for (let tap = 0; tap + 1 < splits.length; tap++) {
    const at = firstNot((rule) => ends[end][rule] < row, splits[tap], splits[tap + 1]);
    if (at < splits[tap + 1] && ends[end][at] === row)
      rules.push({ tap, count: at - splits[tap], in: ends.inRows[at], out: ends.outRows[at] });
  }
  return rules;
}

/** How many rules end at each of `rows` rows. */
export function rulesPerRow(book, rows) {
  const counts = new Int32Array(rows);
  for (const row of book.outRows) counts[row]++;
  return counts;
}

/** The row of a site given as numbers [batch, z, y, x], or -1. */
export function rowOf(sites, site) {
  const order = (row) => site.reduce((found, value, column) => found || sites[column][row] - value, 0);
  const row = firstNot((at) => order(at) < 0, 0, sites[0].length);
  return row < sites[0].length && order(row) === 0 ? row : -1;
}

/**
 * The rows of the input that one row of a value depends on.
 *
 * Walks the operations back from the value; each marks the rows it reads. `book(map, inverse)` gives a map's rules and
 * `sites(value)` a value's site columns; either may be null where the page holds no sites, and then so is the result.
 */
export function receptiveField(operations, value, row, sites, book) {
  const marks = new Map();
  const markOf = (slot) => {
    if (!marks.has(slot)) marks.set(slot, new Uint8Array(sites(slot)[0].length));
    return marks.get(slot);
  };
  if (!sites(value)) return null;
  markOf(value)[row] = 1;
  for (const { output, reads } of [...operations].reverse()) {
    const wanted = marks.get(output);
    if (!wanted) continue;
    for (const { value: source, kind, map, inverse } of reads) {
      const rules = kind === "map" ? book(map, inverse) : null;
      if (!sites(source) || (kind === "map" && !rules)) return null;
      markSources(kind, wanted, markOf(source), { rules, from: sites(source), to: sites(output) });
    }
  }
  const input = marks.get(0);
  return input ? Int32Array.from(input.keys()).filter((index) => input[index]) : new Int32Array(0);
}

function markSources(kind, wanted, sources, { rules, from, to }) {
  if (kind === "map") {
    const { inRows, outRows } = rules;
    for (let rule = 0; rule < inRows.length; rule++) if (wanted[outRows[rule]]) sources[inRows[rule]] = 1;
    return;
  }
  // Without rules an output row reads its own row, its column of cells (flatten), or its whole scan (global).
  for (let row = 0; row < sources.length; row++) {
    let reader = row;
    if (kind === "flatten") reader = rowOf(to, [from[0][row], from[2][row], from[3][row]]);
    if (kind === "global") reader = from[0][row];
    if (wanted[reader]) sources[row] = 1;
  }
}
