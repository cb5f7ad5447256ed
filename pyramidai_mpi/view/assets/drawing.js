// All that lies over the slide, drawn anew for each picture that OpenSeadragon draws: lines keep their width at any zoom.

/** Outlines of one kind. Shapes are {name, rings}, a ring being [x, y, x, y, ...] in level-0 pixels. */
export class Outlines {
  constructor(shapes, colour, { halo = "rgb(20 20 20 / 75%)", dash = [] } = {}) {
    Object.assign(this, { colour, halo, dash });
    this.parts = shapes.map(({ rings }) => {
      const path = new Path2D();
      const box = { left: Infinity, top: Infinity, right: -Infinity, bottom: -Infinity };
      for (const ring of rings) {
        for (let i = 0; i < ring.length; i += 2) {
          const [x, y] = [ring[i], ring[i + 1]];
          if (i) path.lineTo(x, y); else path.moveTo(x, y);
          box.left = Math.min(box.left, x); box.right = Math.max(box.right, x);
          box.top = Math.min(box.top, y); box.bottom = Math.max(box.bottom, y);
        }
        path.closePath();
      }
      return { path, box };
    });
  }

  draw(pen, { x, y, scale, width, height }) {
    const near = this.parts.filter(({ box }) =>
      x + box.right * scale >= 0 && x + box.left * scale <= width && y + box.bottom * scale >= 0 && y + box.top * scale <= height);
    pen.save();
    pen.translate(x, y);
    pen.scale(scale, scale);
    pen.lineJoin = "round";
    for (const [style, wide, dash] of [[this.halo, 5, []], [this.colour, 2.5, this.dash]]) {
      pen.strokeStyle = style;
      pen.lineWidth = wide / scale;
      pen.setLineDash(dash.map((one) => one / scale));
      for (const { path } of near) pen.stroke(path);
    }
    pen.restore();
  }
}

/** Frames [x, y, side] around tiles, so that few small ones are found on a large slide. */
export function drawFrames(pen, frames, { x, y, scale, width, height }) {
  const path = new Path2D();
  for (const [left, top, side] of frames) {
    const wide = Math.max(4, side * scale);
    const [right, down] = [x + left * scale, y + top * scale];
    if (right + wide >= 0 && down + wide >= 0 && right <= width && down <= height) path.rect(right, down, wide, wide);
  }
  for (const [style, wide] of [["rgb(20 20 20 / 80%)", 3], ["#fff", 1]]) {
    pen.strokeStyle = style;
    pen.lineWidth = wide;
    pen.stroke(path);
  }
}

/** A canvas over the slide. `painters` are called in order with a pen and the place of the slide on the screen. */
export class Drawing {
  constructor(viewer, slide, painters) {
    Object.assign(this, { viewer, slide, painters });
    this.frame = null;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "lines";
    this.canvas.setAttribute("aria-hidden", "true");
    viewer.canvas.append(this.canvas);
    viewer.addHandler("update-viewport", () => this.draw());
  }

  /** Put a frame around a tile {x, y, side}, or around none. */
  mark(tile) {
    this.frame = tile;
    this.draw();
  }

  /** Where the slide lies on the screen; null before it is open. */
  place() {
    const item = this.viewer.world.getItemAt(0);
    if (!item) return null;
    const from = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(0, 0));
    const to = item.imageToViewerElementCoordinates(new OpenSeadragon.Point(this.slide.width, 0));
    const { clientWidth: width, clientHeight: height } = this.viewer.canvas;
    return { x: from.x, y: from.y, scale: (to.x - from.x) / this.slide.width, width, height };
  }

  draw() {
    const place = this.place();
    if (!place) return;
    const ratio = window.devicePixelRatio || 1;
    const size = [Math.round(place.width * ratio), Math.round(place.height * ratio)];
    if (this.canvas.width !== size[0] || this.canvas.height !== size[1]) [this.canvas.width, this.canvas.height] = size;
    const pen = this.canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, place.width, place.height);
    pen.save();
    pen.beginPath(); // tiles reach beyond the slide
    pen.rect(place.x, place.y, this.slide.width * place.scale, this.slide.height * place.scale);
    pen.clip();
    for (const paint of this.painters) paint(pen, place);
    pen.restore();
    if (!this.frame) return;
    const { x, y, side } = this.frame, { scale } = place;
    for (const [style, wide] of [["#111", 6], ["#fff", 3]]) {
      pen.strokeStyle = style;
      pen.lineWidth = wide;
      pen.strokeRect(place.x + x * scale, place.y + y * scale, side * scale, side * scale);
    }
  }
}
