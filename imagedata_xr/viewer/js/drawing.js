import {clamp, mean, outline, valuesInside} from "./geometry.js"
import {element} from "./viewport.js"

export const COLOURS = ["#4fc3f7", "#ffb74d", "#aed581", "#f06292", "#ba68c8", "#fff176"]

/** Regions of interest: drawn, shown and edited. */
export class Drawing {
  constructor(viewer) {
    Object.assign(this, {viewer, tool: "", begun: null, picked: -1, held: null})
    this.rois = JSON.parse(viewer.model.rois)
    viewer.model.properties.rois.change.connect(() => {
      const told = viewer.model.rois
      if (told !== JSON.stringify(this.rois)) this.rois = JSON.parse(told)
      viewer.viewports.forEach((viewport) => this.paint(viewport))
      viewer.curves.later()
    })
  }

  keep(rois) {
    this.rois = rois
    this.viewer.model.rois = JSON.stringify(rois)
  }

  take(tool) {
    this.begun = null
    this.tool = this.tool === tool ? "" : tool
    this.viewer.showState()
  }

  cancel() {
    if (this.begun === null) this.tool = ""
    this.begun = null
    this.picked = -1
    this.viewer.showState()
    this.viewer.viewports.forEach((viewport) => this.paint(viewport))
  }

  /** Whether a ROI is on what a viewport shows. */
  isOn(roi, {panel, shown}) {
    return panel !== undefined && shown?.panel === panel && shown.plane === 0 && roi.series === panel.state.series &&
      roi.slice === shown.place.at(-3) && (roi.tags === null || roi.tags.every((x, n) => x === shown.place[n]))
  }

  press(viewport, at) {
    const {panel} = viewport
    if (this.tool !== "" && panel.state.plane === 0) {
      const point = viewport.fromScreen(at)
      if (this.tool !== "polygon") this.begun = {viewport, points: [point]}
      else if (this.begun?.viewport !== viewport) this.begun = {viewport, points: [point]}
      else if (this.begun.points.length > 2 && this.far(viewport, this.begun.points[0], at) < 7) this.finish()
      else this.begun.points.push(point)
      this.paint(viewport)
      return true
    }
    const on = this.rois.findIndex((roi) => this.isOn(roi, viewport) && this.touched(viewport, roi, at) !== undefined)
    this.picked = on
    this.viewer.showState()
    if (on < 0) return false
    this.held = {viewport, vertex: this.touched(viewport, this.rois[on], at), at: viewport.fromScreen(at), roi: this.rois[on]}
    this.paint(viewport)
    return true
  }

  far(viewport, vertex, at) {
    const [x, y] = viewport.toScreen(vertex)
    return Math.hypot(x - at[0], y - at[1])
  }

  /** Number of the vertex that is touched, -1 for the outline, undefined for neither. */
  touched(viewport, roi, at) {
    const vertex = roi.vertices.findIndex((v) => this.far(viewport, v, at) < 6)
    if (vertex >= 0) return vertex
    const points = outline(roi).map((v) => viewport.toScreen(v))
    const near = points.some(([x0, y0], n) => {
      const [x1, y1] = points[(n + 1) % points.length]
      const length = Math.hypot(x1 - x0, y1 - y0) || 1
      const along = clamp(((at[0] - x0) * (x1 - x0) + (at[1] - y0) * (y1 - y0)) / length ** 2, 0, 1)
      return Math.hypot(x0 + along * (x1 - x0) - at[0], y0 + along * (y1 - y0) - at[1]) < 5
    })
    return near ? -1 : undefined
  }

  move(viewport, at) {
    const point = viewport.fromScreen(at)
    const {begun, held} = this
    if (held !== null) {
      const by = [point[0] - held.at[0], point[1] - held.at[1]]
      const isAll = held.vertex < 0 || (held.roi.kind === "ellipse" && held.vertex === 0)
      const vertices = held.roi.vertices.map((v, n) => (isAll || n === held.vertex ? [v[0] + by[0], v[1] + by[1]] : v))
      this.keep(this.rois.map((roi, n) => (n === this.picked ? {...roi, vertices} : roi)))
    } else if (begun?.viewport === viewport) {
      if (this.tool === "freehand") {
        const [r, c] = begun.points.at(-1)
        if (Math.hypot(r - point[0], c - point[1]) > 0.5) begun.points.push(point)
      } else begun.end = point
      this.paint(viewport)
    }
  }

  release(viewport, at) {
    this.held = null
    const {begun} = this
    if (begun === null || this.tool === "polygon") return
    if (this.tool === "ellipse") {
      const [[r0, c0], [r1, c1]] = [begun.points[0], viewport.fromScreen(at)]
      const center = [(r0 + r1) / 2, (c0 + c1) / 2]
      begun.points = [center, [r1, center[1]], [center[0], c1]]
      if (Math.abs(r1 - r0) < 1 || Math.abs(c1 - c0) < 1) begun.points = []
    }
    this.finish()
  }

  /** Keep what was begun; false if there is nothing. */
  finish() {
    const {begun, tool} = this
    if (begun === null) return false
    this.begun = null
    const {panel} = begun.viewport
    // A double click adds a vertex twice.
    const vertices = begun.points.filter(([r, c], n, all) => n === 0 || Math.hypot(r - all[n - 1][0], c - all[n - 1][1]) > 1e-3)
    if (vertices.length > 2) {
      const names = new Set(this.rois.map((roi) => roi.name))
      let number = 1
      while (names.has(`ROI ${number}`)) number++
      const tags = this.viewer.args.perTag ? panel.state.place.slice(0, panel.tags) : null
      this.picked = this.rois.length
      this.keep([...this.rois, {
        name: `ROI ${number}`, kind: tool === "ellipse" ? "ellipse" : "polygon", series: panel.state.series,
        slice: panel.framePlace.at(-1), tags, vertices,
      }])
    }
    this.viewer.showState()
    this.paint(begun.viewport)
    return true
  }

  back() {
    this.begun?.points.pop()
    if (this.begun?.points.length === 0) this.begun = null
    this.viewer.viewports.forEach((viewport) => this.paint(viewport))
  }

  copyOn(viewport) {
    const {panel} = viewport
    const on = this.rois.filter((roi) => this.isOn(roi, viewport))
    const slice = panel.framePlace.at(-1) + panel.direction
    if (on.length === 0 || panel.state.plane > 0 || slice < 0 || slice >= panel.facts.size[0]) return
    const has = (name) => this.rois.some((roi) => roi.series === panel.state.series && roi.slice === slice && roi.name === name)
    this.keep([...this.rois, ...on.filter(({name}) => !has(name)).map((roi) => ({...roi, slice}))])
    this.viewer.hands.step(viewport, panel.direction)
  }

  change(changes) { this.keep(this.rois.map((roi, n) => (n === this.picked ? {...roi, ...changes} : roi))) }

  toggleTags({panel}) {
    if (this.picked < 0 || panel.tags === 0) return
    this.change({tags: this.rois[this.picked].tags === null ? panel.state.place.slice(0, panel.tags) : null})
  }

  remove() {
    if (this.picked < 0) return
    const gone = this.picked
    this.picked = -1
    this.keep(this.rois.filter((_, n) => n !== gone))
    this.viewer.showState()
  }

  paint(viewport) {
    const {svg, panel} = viewport
    if (!svg || !panel) return
    svg.replaceChildren()
    const path = (points) => points.map((v) => viewport.toScreen(v).map((x) => x.toFixed(1)).join(",")).join(" ")
    this.rois.forEach((roi, n) => {
      if (!this.isOn(roi, viewport)) return
      const color = COLOURS[(n + 1) % COLOURS.length]
      const points = outline(roi)
      element("polygon", {points: path(points), fill: color, "fill-opacity": 0.15, stroke: color, "stroke-width": 2}, svg)
      const [x, y] = viewport.toScreen(points.reduce((best, v) => (v[1] > best[1] ? v : best)))
      const label = element("text", {x: x + 6, y, fill: color, "font-size": 11}, svg)
      label.textContent = `${roi.name}${roi.tags === null ? "" : " (here)"}${this.measured(viewport, roi)}`
      if (n !== this.picked) return
      for (const vertex of roi.vertices) {
        const [cx, cy] = viewport.toScreen(vertex)
        element("circle", {cx, cy, r: 4, fill: "#000", stroke: color, "stroke-width": 2}, svg)
      }
    })
    if (this.begun?.viewport === viewport) {
      const points = this.tool === "ellipse" && this.begun.end ? this.box() : [...this.begun.points, ...(this.begun.end ? [this.begun.end] : [])]
      element("polyline", {points: path(points), fill: "none", stroke: "#fff", "stroke-width": 1.5, "stroke-dasharray": "4 2"}, svg)
    }
    if (viewport.here !== null) {
      const [x, y] = viewport.toScreen(viewport.here)
      for (const d of [`M${x - 9} ${y}H${x + 9}`, `M${x} ${y - 9}V${y + 9}`]) element("path", {d, stroke: "#4fc3f7", "stroke-width": 1.5}, svg)
    }
  }

  box() {
    const [[r0, c0], [r1, c1]] = [this.begun.points[0], this.begun.end]
    const center = [(r0 + r1) / 2, (c0 + c1) / 2]
    const round = outline({kind: "ellipse", vertices: [center, [r1, center[1]], [center[0], c1]]})
    return [...round, round[0]]
  }

  measured({panel, shown}, roi) {
    if (panel.facts.isColour || shown.values === undefined) return ""
    const found = valuesInside(roi, shown.values, panel.facts.size[1], panel.facts.size[2])
    if (found.length === 0) return ""
    const center = mean(found)
    const spread = Math.sqrt(mean(found.map((x) => (x - center) ** 2)))
    return `\u00a0 ${Number(center.toPrecision(4))} ± ${Number(spread.toPrecision(3))}  n ${found.length}`
  }
}
