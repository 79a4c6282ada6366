// The 3-D view: the sites of one level as points, and what belongs to the picked one as boxes and lines.
const {
  BoxGeometry, BufferAttribute, BufferGeometry, Color, EdgesGeometry, InstancedMesh, LineBasicMaterial, LineSegments,
  Matrix4, MeshBasicMaterial, OrbitControls, PerspectiveCamera, Points, PointsMaterial, Scene, Vector3, WebGLRenderer,
} = globalThis.THREE;

const FIELD_OF_VIEW = 45;
const LEAST_PIXELS = 2;
const NEAR_PIXELS = 10;
const CLICK_PIXELS = 4;

export class View {
  /** Draws into `canvas`; `onPick` is called with the row under a click. Throws where there is no WebGL. */
  constructor(canvas, onPick) {
    this.canvas = canvas;
    this.renderer = new WebGLRenderer({ canvas, antialias: true });
    this.scene = new Scene();
    this.camera = new PerspectiveCamera(FIELD_OF_VIEW, 1, 0.01, 1e5);
    this.camera.up.set(0, 0, 1);
    this.controls = new OrbitControls(this.camera, canvas);
    this.controls.zoomToCursor = true;
    this.controls.listenToKeyEvents(canvas);
    this.controls.addEventListener("change", () => this.draw());
    this.marks = [];
    new ResizeObserver(() => this.resize()).observe(canvas);
    let down = null;
    canvas.addEventListener("pointerdown", (event) => (down = [event.clientX, event.clientY]));
    canvas.addEventListener("pointerup", (event) => {
      if (down && Math.hypot(event.clientX - down[0], event.clientY - down[1]) < CLICK_PIXELS)
        onPick(this.rowAt(event.clientX, event.clientY));
      down = null;
    });
    canvas.addEventListener("keydown", (event) => {
      const factor = { "+": 0.8, "-": 1.25 }[event.key];
      if (factor) this.zoom(factor);
    });
  }

  /** Draw once, soon. */
  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = 0;
      this.renderer.render(this.scene, this.camera);
    });
  }

  resize() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    this.renderer.setPixelRatio(globalThis.devicePixelRatio);
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.camera.updateProjectionMatrix();
    this.draw();
  }

  background(colour) {
    this.scene.background = new Color(colour);
    this.draw();
  }

  /** Show points at `centres` (Float32Array, x y z), coloured by `colours` (the same length), each `cell` large. */
  show(centres, colours, cell) {
    this.remove(this.points);
    this.centres = centres;
    this.cell = cell;
    this.points = pointCloud(centres, cell, { vertexColors: true }, colours);
    this.scene.add(this.points);
    this.draw();
  }

  /** Let the points step back behind what is marked, or forward again. */
  fade(faded) {
    if (!this.points) return;
    const size = pointSize(this.cell) * (faded ? 0.3 : 1);
    Object.assign(this.points.material, { size, opacity: faded ? 0.4 : 1, transparent: faded, depthWrite: !faded });
    this.points.material.needsUpdate = true;
    this.draw();
  }

  /** Replace what is marked: a list of {kind: boxes | outlines | dots | lines, centres, cell, colour}. */
  mark(marks) {
    this.marks.forEach((object) => this.remove(object));
    this.marks = marks.map((mark, at) => Object.assign(MARKS[mark.kind](mark), { renderOrder: 1 + at }));
    this.marks.forEach((object) => this.scene.add(object));
    this.draw();
  }

  remove(object) {
    if (!object) return;
    this.scene.remove(object);
    object.geometry.dispose();
    object.material.dispose();
  }

  /** Look at all points from behind and above. */
  reset() {
    const { low, high } = extent(this.centres, 0.02);
    const centre = low.map((value, axis) => (value + high[axis]) / 2);
    const size = Math.max(Math.hypot(...high.map((value, axis) => value - low[axis])), 2 * Math.max(...this.cell));
    const flat = high[2] - low[2] < 1e-6;
    const direction = new Vector3(...(flat ? [0, -0.02, 1] : [-0.75, -0.35, 0.62])).normalize();
    this.aim(new Vector3(...centre), direction.multiplyScalar(size * (flat ? 1.15 : 0.8)));
  }

  /** Look at one place so that `reach` metres around it fill the view. */
  focus(centre, reach) {
    const direction = this.camera.position.clone().sub(this.controls.target).normalize();
    this.aim(new Vector3(...centre), direction.multiplyScalar(reach));
  }

  zoom(factor) {
    this.aim(this.controls.target, this.camera.position.clone().sub(this.controls.target).multiplyScalar(factor));
  }

  aim(target, away) {
    this.controls.target.copy(target);
    this.camera.position.copy(target).add(away);
    this.controls.update();
    this.draw();
  }

  /** Where a row's centre is drawn, in pixels of the window. */
  pixelOf(row) {
    const place = new Vector3(...this.centres.subarray(3 * row, 3 * row + 3)).project(this.camera);
    const box = this.canvas.getBoundingClientRect();
    return [box.left + ((place.x + 1) / 2) * box.width, box.top + ((1 - place.y) / 2) * box.height];
  }

  /** The row drawn at a pixel: the nearest to the eye of those that cover it, else the closest by; -1 for none. */
  rowAt(left, top) {
    this.camera.updateMatrixWorld();
    const m = new Matrix4().multiplyMatrices(this.camera.projectionMatrix, this.camera.matrixWorldInverse).elements;
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [left - box.left - box.width / 2, box.height / 2 - (top - box.top)];
    const half = (pointSize(this.cell) * box.height) / 4;
    let [covering, depth, close, distance] = [-1, Infinity, -1, NEAR_PIXELS];
    for (let row = 0; row < this.centres.length / 3; row++) {
      const [a, b, c] = [this.centres[3 * row], this.centres[3 * row + 1], this.centres[3 * row + 2]];
      const w = m[3] * a + m[7] * b + m[11] * c + m[15];
      if (w <= 0) continue;
      const right = Math.abs((((m[0] * a + m[4] * b + m[8] * c + m[12]) / w) * box.width) / 2 - x);
      const up = Math.abs((((m[1] * a + m[5] * b + m[9] * c + m[13]) / w) * box.height) / 2 - y);
      const radius = Math.max(half / w, LEAST_PIXELS / 2);
      if (right <= radius && up <= radius && w < depth) [covering, depth] = [row, w];
      if (Math.hypot(right, up) < distance) [close, distance] = [row, Math.hypot(right, up)];
    }
    return covering >= 0 ? covering : close;
  }
}

// three.js draws a point of size 1 at distance 1 half the canvas high, whatever the field of view.
const pointSize = (cell) => cell[1] / Math.tan((FIELD_OF_VIEW * Math.PI) / 360);

function pointCloud(centres, cell, options, colours = null) {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(centres, 3));
  if (colours) geometry.setAttribute("color", new BufferAttribute(colours, 3));
  const material = new PointsMaterial({ size: pointSize(cell), ...options });
  const least = `gl_PointSize = max(gl_PointSize, ${(LEAST_PIXELS * globalThis.devicePixelRatio).toFixed(1)});`;
  material.onBeforeCompile = (shader) => {
    shader.vertexShader = shader.vertexShader.replace("#include <fog_vertex>", `${least}\n#include <fog_vertex>`);
  };
  return new Points(geometry, material);
}

function outlines(centres, cell) {
  const corners = new EdgesGeometry(new BoxGeometry(...cell)).getAttribute("position").array;
  const all = new Float32Array((centres.length / 3) * corners.length);
  for (let row = 0; row < centres.length / 3; row++)
    for (let at = 0; at < corners.length; at++)
      all[row * corners.length + at] = centres[3 * row + (at % 3)] + corners[at];
  return all;
}

function lines(positions, colour) {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(positions, 3));
  return new LineSegments(geometry, new LineBasicMaterial({ color: colour, depthTest: false, transparent: true }));
}

const MARKS = {
  boxes: ({ centres, cell, colour }) => {
    const material = new MeshBasicMaterial({ color: colour, transparent: true, opacity: 0.55, depthWrite: false });
    const mesh = new InstancedMesh(new BoxGeometry(...cell), material, centres.length / 3);
    for (let row = 0; row < mesh.count; row++)
      mesh.setMatrixAt(row, new Matrix4().setPosition(...centres.subarray(3 * row, 3 * row + 3)));
    mesh.frustumCulled = false;
    return mesh;
  },
  outlines: ({ centres, cell, colour }) => lines(outlines(centres, cell), colour),
  lines: ({ centres, colour }) => lines(centres, colour),
  dots: ({ centres, cell, colour }) => pointCloud(centres, cell, { color: colour }),
};

/** The lowest and highest x, y, z, without so large a share of outliers at either end. */
export function extent(centres, outliers = 0) {
  const sorted = [0, 1, 2].map((axis) => centres.filter((_, at) => at % 3 === axis).sort());
  const at = (share) => sorted.map((values) => values[Math.round(share * (values.length - 1))] ?? 0);
  return { low: at(outliers), high: at(1 - outliers) };
}
