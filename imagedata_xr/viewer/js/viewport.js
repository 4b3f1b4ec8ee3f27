import {SIDES, frameNumber, letters} from "./geometry.js"

const WRAPPED = "max-width:42%;white-space:pre-wrap;" // the letters at the edges stay free
const STYLES = {
  upperLeft: `${WRAPPED}left:4px;top:4px`, upperRight: `${WRAPPED}right:4px;top:4px;text-align:right`,
  lowerLeft: `${WRAPPED}left:4px;bottom:4px`, lowerRight: `${WRAPPED}right:4px;bottom:4px;text-align:right`,
  left: "left:4px;top:50%;transform:translateY(-50%)", right: "right:4px;top:50%;transform:translateY(-50%)",
  top: "top:2px;left:50%;transform:translateX(-50%)", bottom: "bottom:2px;left:50%;transform:translateX(-50%)",
}
const EDGES = ["left", "right", "top", "bottom"]

const SVG = "http://www.w3.org/2000/svg"
export function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  parent.appendChild(made)
  return made
}

/** One figure, and the panel that it shows. */
export class Viewport {
  constructor(viewer, number) {
    Object.assign(this, {viewer, number, texts: {}, zoom: null, stamp: "", here: null})
    for (const key of ["figures", "sources", "colourSources", "mappers", "renderers", "colourRenderers"])
      this[key.slice(0, -1)] = viewer.args[key][number]
  }

  get panel() { return this.viewer.panels[this.viewer.first + this.number] }

  wire(view) {
    const el = view.canvas_view?.events_el ?? view.canvas.events_el
    if (this.el === el) return
    Object.assign(this, {view, el})
    // JupyterLab takes keys at the document, but not from what is marked so; the mark has to be outside of shadow roots.
    let host = el
    while (host.getRootNode() instanceof ShadowRoot) host = host.getRootNode().host
    host.dataset.lmSuppressShortcuts = "true"
    el.dataset.lmSuppressShortcuts = "true"
    el.style.outline = "none"
    el.tabIndex = 0
    this.box = document.createElement("div")
    this.svg = element("svg", {style: "position:absolute;left:0;top:0;width:100%;height:100%"}, this.box)
    for (const [name, style] of Object.entries(STYLES)) {
      const text = document.createElement("div")
      text.style.cssText = `position:absolute;${style}${EDGES.includes(name) ? ";color:#ffd54a;font-size:14px;font-weight:600" : ""}`
      this.texts[name] = this.box.appendChild(text)
    }
    el.parentNode.insertBefore(this.box, el)
    const place = () => {
      const {left, top, width, height} = view.frame.bbox
      this.box.style.cssText = `position:absolute;left:${left}px;top:${top}px;width:${width}px;height:${height}px;` +
        "pointer-events:none;color:#fff;font:11px sans-serif;white-space:pre;text-shadow:0 0 2px #000,0 0 2px #000;" +
        "z-index:1;overflow:hidden;box-sizing:border-box"
      this.viewer.mark()
      this.stamp = ""
      this.draw()
    }
    new ResizeObserver(place).observe(el)
    this.viewer.hands.wire(this, el)
    place()
  }

  /** Axes of the plane: which of slice, row, col is stepped through, goes down, goes right; whether either is turned. */
  get plane() {
    const {facts, state} = this.panel
    const across = state.plane
    const [down, right] = SIDES[across]
    const direction = (n) => facts.directions && facts.directions[n].map((x) => x * Math.sign(facts.steps[n]))
    const ends = [down, right].map((n) => (facts.directions ? letters(direction(n)) : ""))
    const starts = [down, right].map((n) => (facts.directions ? letters(direction(n).map((x) => -x)) : ""))
    // As acquired in the plane of the frames; cut ones have head or front at the top, and right or front at the left.
    const flips = [0, 1].map((n) => across > 0 && starts[n] !== "" && (n === 0 ? "FP" : "LP").includes(starts[n][0]))
    return {across, down, right, flips, starts, ends}
  }

  /** Fit the picture, or what was zoomed to, into the frame: a millimetre is as long either way. */
  fit() {
    const {facts} = this.panel
    const {down, right, flips} = this.plane
    const [dy, dx] = [down, right].map((n) => Math.abs(facts.steps[n]))
    const [rows, cols] = [facts.size[down], facts.size[right]]
    const {width, height} = this.view.frame.bbox
    const whole = {x: ((cols - 1) * dx) / 2, y: ((rows - 1) * dy) / 2, scale: Math.max((cols * dx) / width, (rows * dy) / height)}
    this.zoom ??= whole
    const {x, y, scale} = this.zoom
    const [fx, fy] = [flips[1] ? -1 : 1, flips[0] ? -1 : 1]
    this.figure.x_range.setv({start: x - (fx * scale * width) / 2, end: x + (fx * scale * width) / 2})
    this.figure.y_range.setv({start: y + (fy * scale * height) / 2, end: y - (fy * scale * height) / 2})
    return {x: [-dx / 2], y: [-dy / 2], dw: [cols * dx], dh: [rows * dy]}
  }

  /** From [row, col] of the shown picture to the pixel of the frame, and back. */
  toScreen([row, col]) {
    const {facts, state} = this.panel
    const [down, right] = SIDES[state.plane]
    const {x_range: x, y_range: y} = this.figure
    const {width, height} = this.view.frame.bbox
    return [
      ((col * Math.abs(facts.steps[right]) - x.start) / (x.end - x.start)) * width,
      ((row * Math.abs(facts.steps[down]) - y.end) / (y.start - y.end)) * height,
    ]
  }

  fromScreen([left, top]) {
    const {facts, state} = this.panel
    const [down, right] = SIDES[state.plane]
    const {x_range: x, y_range: y} = this.figure
    const {width, height} = this.view.frame.bbox
    return [
      (y.end + (top / height) * (y.start - y.end)) / Math.abs(facts.steps[down]),
      (x.start + (left / width) * (x.end - x.start)) / Math.abs(facts.steps[right]),
    ]
  }

  /** Values of the shown plane, which slice of frames is shown instead of a missing one, and why one is missing. */
  values() {
    const {facts, frames, state} = this.panel
    const place = this.panel.framePlace
    const k = frameNumber(place, frames.shape)
    if (state.plane === 0) {
      const values = frames.get(k)
      if (values !== undefined) return {values}
      const near = frames.near(place)
      return {values: near?.[1], instead: near?.[0] ?? -1, reason: frames.failed.get(k)}
    }
    const [slices, rows, cols] = facts.size
    const [row, col] = state.place.slice(-2)
    const width = state.plane === 1 ? cols : rows
    // From where a line of the cut begins in a frame, and how far apart its values are there.
    const [first, apart] = state.plane === 1 ? [row * cols, 1] : [col, cols]
    let cut, missing = 0
    for (let z = 0; z < slices; z++) {
      const frame = frames.get(frameNumber([...place.slice(0, -1), z], frames.shape))
      if (frame === undefined) missing++
      else cut ??= new frame.constructor(Array.from({length: slices * width}, () => 0), [slices, width])
      for (let n = 0; frame !== undefined && n < width; n++) cut[z * width + n] = frame[first + n * apart]
    }
    return {values: cut, instead: missing ? -1 : undefined, missing}
  }

  draw() {
    if (this.view === undefined) return
    const panel = this.panel
    this.box.style.display = panel ? "" : "none"
    this.renderer.visible = panel !== undefined && !panel.facts.isColour
    this.colourRenderer.visible = panel !== undefined && panel.facts.isColour
    if (panel === undefined) return
    const {facts, frames, state} = panel
    const source = facts.isColour ? this.colourSource : this.source
    const shown = this.values()
    const stamp = `${panel.number} ${state.plane} ${this.view.frame.bbox.width} ${this.view.frame.bbox.height}`
    if (stamp !== this.stamp) {
      if (this.stamp !== "") this.zoom = null
      this.stamp = stamp
      const extent = this.fit()
      if (shown.values !== undefined) source.data = {image: [shown.values], ...extent}
    } else if (shown.values !== undefined && source.data.image[0] !== shown.values) {
      source.data.image[0] = shown.values
      source.change.emit()
    }
    this.shown = shown
    this.window()
    this.write()
    this.drawn = shown.instead === undefined
    frames.want(this.wanted())
  }

  * wanted() {
    const {frames, state, framePlace, direction} = this.panel
    if (state.plane > 0) for (let z = 0; z < frames.shape.at(-1); z++) yield frameNumber([...framePlace.slice(0, -1), z], frames.shape)
    yield frameNumber(framePlace, frames.shape)
    yield* this.viewer.curves.wanted(this.panel)
    yield* frames.around(framePlace, direction)
  }

  window() {
    const {state, facts} = this.panel
    const {low, high} = state
    const palette = this.viewer.palette(state.colormap, state.inverted !== facts.isInverted)
    if (this.mapper.palette !== palette) this.mapper.palette = palette
    if (this.mapper.low !== low || this.mapper.high !== high) this.mapper.setv({low, high})
  }

  write() {
    const {facts, state} = this.panel
    const {plane} = this
    const {across} = plane
    const tell = (name, text) => { if (this.texts[name].textContent !== text) this.texts[name].textContent = text }
    const at = state.place.slice(-3)[across]
    const {instead, reason, missing} = this.shown
    const name = ["slice", "row", "col"][across]
    const position = facts.directions ? ` at ${facts.positions[across][at].toFixed(1)} mm` : ""
    const late = reason ? `\n${reason}` : missing ? `\nloading ${missing} slices` :
      instead === undefined ? "" : `\nloading${instead < 0 ? "" : `; slice ${instead + 1} is shown`}`
    tell("upperLeft", facts.patient)
    tell("upperRight", facts.series)
    tell("lowerLeft", `${name} ${at + 1}/${facts.size[across]}${position}` +
      (facts.isColour ? "" : `\nW ${this.panel.round(state.high - state.low)}  C ${this.panel.round((state.high + state.low) / 2)}`) + late)
    tell("lowerRight", facts.tags.map((tag, n) =>
      `${facts.tags.length > 1 && n === this.panel.tag ? "▸ " : ""}${tag.name}[${state.place[n]}]: ${tag.labels[state.place[n]]}`).join("\n"))
    ;[["top", "bottom"], ["left", "right"]].forEach((names, n) => {
      const ends = [plane.starts[n], plane.ends[n]]
      if (plane.flips[n]) ends.reverse()
      names.forEach((edge, i) => tell(edge, ends[i]))
    })
    this.viewer.drawing.paint(this)
  }

  /** (slice, row, col) numbers, which may lie between voxels, of a pixel of the frame. */
  indexAt(screen) {
    const {across, down, right} = this.plane
    const [row, col] = this.fromScreen(screen)
    const index = this.panel.state.place.slice(-3)
    index[down] = row
    index[right] = col
    index[across] = this.panel.state.place.slice(-3)[across]
    return index
  }
}
