import {SIDES, SIGMOID_BEYOND, clamp, letters} from "./geometry.js"

const WRAPPED = "max-width:calc(50% - 20px);white-space:pre-wrap;overflow-wrap:anywhere;" // the letters at the edges stay free
const STYLES = {
  upperLeft: `${WRAPPED}left:4px;top:4px`, upperRight: `${WRAPPED}right:4px;top:4px;text-align:right`,
  lowerLeft: `${WRAPPED}left:4px;bottom:4px`, lowerRight: `${WRAPPED}right:4px;bottom:4px;text-align:right`,
  left: "left:4px;top:50%;transform:translateY(-50%)", right: "right:4px;top:50%;transform:translateY(-50%)",
  notice: "top:25%;left:5%;width:90%;white-space:pre-wrap;text-align:center;color:#ffb74d", // is not hidden with the other texts
  top: "top:2px;left:50%;transform:translateX(-50%)", bottom: "bottom:2px;left:50%;transform:translateX(-50%)",
}
// Names and letters have to be read on white and on noise, too.
const OUTLINE = [-1, 0, 1].flatMap((x) => [-1, 0, 1].map((y) => `${x}px ${y}px 2px #000`)).join()
const EDGES = ["left", "right", "top", "bottom"]
const NAMES = ["slice", "row", "col"]

const SVG = "http://www.w3.org/2000/svg"
export function element(name, attributes, parent) {
  const made = document.createElementNS(SVG, name)
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value)
  parent.appendChild(made)
  return made
}

/** Change what is derived here from states that are told: Python and other pages need not know, and have their own. */
export const set = (model, changes) => model.setv(changes, {sync: false})

/** The same for values, which also JupyterLab would send back: a frame may be larger than what a server takes. */
export function put(source, data) {
  source.setv({data}, {silent: true})
  source.change.emit()
}

/** Whether any of the slices that are missing may still come. */
const isLoading = ({missing}) => [...missing.values()].includes(undefined)

/** One figure, and the panel that it shows. */
export class Viewport {
  constructor(viewer, number) {
    Object.assign(this, {viewer, number, texts: {}, zoom: null, stamp: "", isPlaced: false, here: null, cutLines: {}})
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
        `pointer-events:none;color:#fff;font:11px sans-serif;white-space:pre;text-shadow:${OUTLINE};` +
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
    this.zoom.scale = clamp(this.zoom.scale, whole.scale / 1000, whole.scale * 10) // beyond it nothing is seen
    const {x, y, scale} = this.zoom
    const [fx, fy] = [flips[1] ? -1 : 1, flips[0] ? -1 : 1]
    set(this.figure.x_range, {start: x - (fx * scale * width) / 2, end: x + (fx * scale * width) / 2})
    set(this.figure.y_range, {start: y + (fy * scale * height) / 2, end: y - (fy * scale * height) / 2})
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

  /** [row, col] in the shown picture of the voxel to be marked; null if it is in another one. */
  mark() {
    const {here, shown, panel: {facts}} = this
    if (here === null || !shown) return null
    const half = 0.5 + 1e-6
    const isIn = here.every((x, n) => (n === shown.plane ? Math.abs(x - shown.place.at(n - 3)) <= half : x >= -half && x <= facts.size[n] - 1 + half))
    return isIn ? SIDES[shown.plane].map((n) => here[n]) : null
  }

  /** Values of a frame at the panel's place, and its number if it is not here, with the reason if it cannot be read. */
  frame() {
    const {frames, framePlace, needed: [k]} = this.panel
    const values = frames.get(k)
    return {values, missing: new Map(values === undefined ? [[framePlace.at(-1), frames.failed.get(k)]] : [])}
  }

  /** The lines of the cut at the panel's place that are here, as far as they were cut. */
  get lines() {
    const {number, state: {plane, place}, needed: [k]} = this.panel
    const stamp = [number, plane, place.at(plane - 3), k].join()
    if (this.cutLines.stamp !== stamp) this.cutLines = {stamp, values: undefined, have: new Set()}
    return this.cutLines
  }

  /**
   * Values of a row or column cut at the panel's place; the lines of slices that are missing are left empty. A line that
   * was cut stays when its frame has to go: there may be more slices than there is room for.
   */
  cut() {
    const {facts, frames, state, needed} = this.panel
    const [slices, rows, cols] = facts.size
    const [row, col] = state.place.slice(-2)
    const width = state.plane === 1 ? cols : rows
    // From where a line of the cut begins in a frame, and how far apart its values are there.
    const [first, apart] = state.plane === 1 ? [row * cols, 1] : [col, cols]
    const {lines} = this
    const missing = new Map()
    const come = needed.flatMap((k, z) => {
      if (lines.have.has(z)) return []
      const frame = frames.get(k)
      if (frame === undefined) missing.set(z, frames.failed.get(k))
      return frame === undefined ? [] : [[z, frame]]
    })
    if (come.length > 0) {
      // Each frame has the type in which its own values fit; those of all fit in 64 bits, where there also is a number for none.
      const [Kind, none] = facts.isColour ? [come[0][1].constructor, 0] : [this.viewer.args.float64.constructor, NaN]
      lines.values = new Kind(lines.values ?? Array.from({length: slices * width}, () => none), [slices, width]) // a new picture
      for (const [z, frame] of come) {
        lines.have.add(z)
        for (let n = 0; n < width; n++) lines.values[z * width + n] = frame[first + n * apart]
      }
    }
    return {values: lines.values, missing}
  }

  /**
   * What is to be shown: values, the place that they are of, and which of its slices are missing.
   * As long as a picture is on its way, it is the nearest one that is here, or what was shown, with a place of its own.
   */
  look() {
    const {panel, shown: last} = this
    const {plane, place} = panel.state
    const found = {panel, plane, place, ...(plane === 0 ? this.frame() : this.cut())}
    if (found.values !== undefined || !isLoading(found)) return found
    const old = last?.panel === panel && last.plane === plane && last.values !== undefined ? last : undefined
    const slice = panel.framePlace.at(-1)
    // After a step along a tag dim the slice stays, rather than to jump to another one and back.
    const near = plane === 0 && old?.place.at(-3) !== slice ? panel.frames.near(panel.framePlace) : undefined
    if (near === undefined) return old ?? found
    return {...found, values: near[1], place: [...place.slice(0, -3), near[0], ...place.slice(-2)], missing: new Map()}
  }

  draw() {
    if (this.view === undefined || this.view.frame.bbox.width === 0) return // out of the page, as what JupyterLab scrolls away
    const panel = this.panel
    this.box.style.display = panel ? "" : "none"
    set(this.renderer, {visible: panel !== undefined && !panel.facts.isColour})
    set(this.colourRenderer, {visible: panel !== undefined && panel.facts.isColour})
    if (panel === undefined) return
    const {facts, state} = panel
    const stamp = `${panel.number} ${state.plane} ${this.view.frame.bbox.width} ${this.view.frame.bbox.height}`
    if (stamp !== this.stamp) {
      if (this.stamp !== "") this.zoom = null
      this.stamp = stamp
      this.extent = this.fit()
      this.isPlaced = false
    }
    this.shown = this.look()
    const {values} = this.shown
    this.box.style.background = values === undefined ? "#000" : "" // the canvas may still have the picture of another place
    const source = facts.isColour ? this.colourSource : this.source
    if (values !== undefined && !this.isPlaced) {
      put(source, {image: [values], ...this.extent})
      this.isPlaced = true
    } else if (values !== undefined && source.data.image[0] !== values) {
      source.data.image[0] = values
      source.change.emit()
    }
    this.window()
    this.write()
    this.drawn = this.shown.place === state.place && !isLoading(this.shown)
    this.want()
  }

  want() {
    const {frames, framePlace, direction} = this.panel
    frames.want([...this.needed(), ...this.viewer.curves.wanted(this.panel)], frames.around(framePlace, direction))
  }

  /** Numbers of the frames that the picture still needs. */
  needed() {
    const {needed, state} = this.panel
    if (state.plane === 0) return needed
    const {have} = this.lines
    return needed.filter((_, z) => !have.has(z))
  }

  window() {
    const {state, facts} = this.panel
    const beyond = facts.isSigmoid ? SIGMOID_BEYOND * (state.high - state.low) : 0
    // White begins at the last value but one; of a window of width 1 all is white that is not black.
    const linear = Math.max(state.high - 1, state.low + (state.high - state.low) / 1e6)
    const [low, high] = [state.low - beyond, facts.isLinear ? linear : state.high + beyond]
    const palette = this.viewer.palette(state.colormap, state.inverted !== facts.isInverted, facts.isSigmoid)
    if (this.mapper.palette !== palette) set(this.mapper, {palette})
    if (this.mapper.low !== low || this.mapper.high !== high) set(this.mapper, {low, high})
  }

  tell(name, text) { if (this.texts[name].textContent !== text) this.texts[name].textContent = text }

  write() {
    const {facts, state} = this.panel
    const {plane} = this
    const {across} = plane
    const tell = (name, text) => this.tell(name, text)
    const {place} = this.shown
    const at = place.slice(-3)[across]
    const position = facts.directions ? ` at ${facts.positions[across][at].toFixed(1)} mm` : ""
    tell("upperLeft", facts.patient)
    tell("upperRight", facts.series)
    tell("lowerLeft", `${NAMES[across]} ${at + 1}/${facts.size[across]}${position}` +
      (facts.isColour ? "" : `\nW ${this.panel.round(state.high - state.low)}  C ${this.panel.round((state.high + state.low) / 2)}`))
    tell("lowerRight", facts.tags.map((tag, n) =>
      `${facts.tags.length > 1 && n === this.panel.tag ? "▸ " : ""}${tag.name}[${place[n]}]: ${tag.labels[place[n]]}`).join("\n"))
    tell("notice", this.notice())
    ;[["top", "bottom"], ["left", "right"]].forEach((names, n) => {
      const ends = [plane.starts[n], plane.ends[n]]
      if (plane.flips[n]) ends.reverse()
      names.forEach((edge, i) => tell(edge, ends[i]))
    })
    this.viewer.drawing.paint(this)
  }

  /** What is on its way, and what cannot be read. */
  notice() {
    const {shown} = this
    const {facts, state} = this.panel
    const told = []
    const loading = [...shown.missing.values()].filter((reason) => reason === undefined).length
    if (shown.place !== state.place) {
      const tags = facts.tags.flatMap((tag, n) => (state.place[n] === shown.place[n] ? [] : [`${tag.name}[${state.place[n]}]: ${tag.labels[state.place[n]]}`]))
      told.push(["loading", `${NAMES[state.plane]} ${state.place.slice(-3)[state.plane] + 1}`, ...tags].join("  "))
    } else if (loading > 0) told.push(state.plane === 0 ? "loading" : `loading ${loading} of ${facts.size[0]} slices`)
    if (told.length > 0 && this.panel.frames.isUnanswered) told.push("no answer from Python: it is busy, or has ended")
    const failed = [...shown.missing].filter(([, reason]) => reason !== undefined)
    const drawing = this.viewer.drawing.notice(this)
    if (drawing !== "") told.push(drawing)
    if (failed.length > 0) told.push(`${failed.length > 1 ? `${failed.length} slices` : `slice ${failed[0][0] + 1}`} ${failed[0][1]}`)
    return told.join("\n")
  }

  /** (slice, row, col) numbers, which may lie between voxels, of a pixel of the frame. */
  indexAt(screen) {
    const {down, right} = this.plane
    const [row, col] = this.fromScreen(screen)
    const index = this.shown.place.slice(-3)
    index[down] = row
    index[right] = col
    return index
  }
}
