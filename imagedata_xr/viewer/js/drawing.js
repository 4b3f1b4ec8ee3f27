import {clamp, measured, outline, shortened} from "./geometry.js"
import {element} from "./viewport.js"

export const COLOURS = ["#4fc3f7", "#ffb74d", "#aed581", "#f06292", "#ba68c8", "#fff176"]

/** Regions of interest: drawn, shown and edited. */
export class Drawing {
  constructor(viewer) {
    Object.assign(this, {viewer, tool: "", begun: null, picked: -1, held: null, known: new WeakMap()})
    this.rois = JSON.parse(viewer.model.rois)
    viewer.model.properties.rois.change.connect(() => {
      const told = viewer.model.rois
      if (told !== JSON.stringify(this.rois)) this.replace(JSON.parse(told))
      this.paintAll()
      viewer.curves.later()
    })
  }

  /** Take what another page or Python has changed; the one that is picked is found by what it is. */
  replace(rois) {
    const picked = JSON.stringify(this.rois[this.picked])
    this.rois = rois
    this.picked = rois.findIndex((roi) => JSON.stringify(roi) === picked)
    this.held = null
  }

  /** Keep a change of the user's, and tell which: Python may have outlines that are not here. */
  keep(rois) {
    const {model} = this.viewer
    const without = (some, others) => some.filter((roi) => !others.includes(roi))
    const drawn = [JSON.parse(model.drawn)[0] + 1, without(this.rois, rois), without(rois, this.rois)]
    this.rois = rois
    model.setv({rois: JSON.stringify(rois), drawn: JSON.stringify(drawn)})
  }

  take(tool) {
    this.begun = null
    this.tool = this.tool === tool ? "" : tool
    this.viewer.showState()
    this.paintAll()
  }

  cancel() {
    if (this.begun === null) this.tool = ""
    this.begun = null
    this.picked = -1
    this.viewer.showState()
    this.paintAll()
  }

  /** Whether a ROI, or one that is begun, is on what a viewport shows. */
  isOn(roi, {panel, shown}) {
    return panel !== undefined && shown?.panel === panel && shown.plane === 0 && roi.series === panel.state.series &&
      roi.slice === shown.place.at(-3) && (roi.tags === null || roi.tags.every((x, n) => x === shown.place[n]))
  }

  isSeen(roi) { return this.viewer.viewports.some((viewport) => this.isOn(roi, viewport)) }

  /** The ROI that is picked, if it is seen: in one viewport, or in any. */
  pickedIn(...viewports) {
    const roi = this.rois[this.picked]
    return roi && viewports.some((viewport) => this.isOn(roi, viewport)) ? roi : undefined
  }

  /** What a viewport has to tell of an outline that was begun elsewhere. */
  notice(viewport) {
    const {begun} = this
    const {panel, viewer, number} = viewport
    if (begun === null || number !== viewer.model.active || this.isOn(begun, viewport)) return ""
    const {facts} = viewer.panels.find(({state}) => state.series === begun.series)
    const tags = (begun.tags ?? []).map((x, n) => `  ${facts.tags[n].name}[${x}]: ${facts.tags[n].labels[x]}`).join("")
    const series = begun.series === panel.state.series ? "" : ` of ${facts.series}`
    return `unfinished outline on slice ${begun.slice + 1}${tags}${series}; Esc drops it`
  }

  /** An outline begun on what is shown: it belongs there, wherever one goes before it ends. */
  begin({panel, shown}, point) {
    const tags = this.viewer.args.perTag ? shown.place.slice(0, panel.tags) : null
    return {series: panel.state.series, slice: shown.place.at(-3), tags, points: [point]}
  }

  press(viewport, at) {
    const {panel, shown} = viewport
    if (this.tool !== "" && panel.state.plane === 0 && shown?.panel === panel && shown.plane === 0) {
      const point = viewport.fromScreen(at)
      if (this.begun === null) this.begun = this.begin(viewport, point)
      else if (!this.isOn(this.begun, viewport)) return true // the notice says so
      else if (this.begun.points.length > 2 && this.far(viewport, this.begun.points[0], at) < 7) this.finish()
      else this.begun.points.push(point)
      this.paintAll()
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
    if (held !== null && this.pickedIn(viewport) === undefined) this.held = null // a key has gone to another place meanwhile
    else if (held !== null) {
      const by = [point[0] - held.at[0], point[1] - held.at[1]]
      const isAll = held.vertex < 0 || (held.roi.kind === "ellipse" && held.vertex === 0)
      const vertices = held.roi.vertices.map((v, n) => (isAll || n === held.vertex ? [v[0] + by[0], v[1] + by[1]] : v))
      this.keep(this.rois.map((roi, n) => (n === this.picked ? {...roi, vertices} : roi)))
    } else if (begun !== null && this.isOn(begun, viewport)) {
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
    // Part of it was drawn over another picture.
    if (!this.isOn(begun, viewport)) begun.points = []
    else if (this.tool === "ellipse") {
      const [[r0, c0], [r1, c1]] = [begun.points[0], viewport.fromScreen(at)]
      const center = [(r0 + r1) / 2, (c0 + c1) / 2]
      begun.points = [center, [r1, center[1]], [center[0], c1]]
      if (Math.abs(r1 - r0) < 1 || Math.abs(c1 - c0) < 1) begun.points = []
    }
    this.end()
  }

  /** Let go of what is held, and of what is drawn as long as the mouse is: a polygon is not. */
  drop() {
    if (this.held === null && (this.begun === null || this.tool === "polygon")) return
    this.held = null
    if (this.tool !== "polygon") this.begun = null
    this.viewer.showState()
    this.paintAll()
  }

  /** Keep what was begun if it is seen; false if there is nothing. */
  finish() {
    if (this.begun === null) return false
    if (this.isSeen(this.begun)) this.end()
    return true
  }

  end() {
    const {begun: {series, slice, tags, points}, tool} = this
    this.begun = null
    // A double click adds a vertex twice.
    const vertices = points.filter(([r, c], n, all) => n === 0 || Math.hypot(r - all[n - 1][0], c - all[n - 1][1]) > 1e-3)
    if (vertices.length > 2) {
      const names = new Set(this.rois.map((roi) => roi.name))
      let number = 1
      while (names.has(`ROI ${number}`)) number++
      this.picked = this.rois.length
      this.keep([...this.rois, {name: `ROI ${number}`, slice, vertices, kind: tool === "ellipse" ? "ellipse" : "polygon", tags, series}])
    }
    this.viewer.showState()
    this.paintAll()
  }

  back() {
    if (this.begun === null || !this.isSeen(this.begun)) return
    this.begun.points.pop()
    if (this.begun.points.length === 0) this.begun = null
    this.paintAll()
  }

  copyOn(viewport) {
    const {panel, shown} = viewport
    const on = this.rois.filter((roi) => this.isOn(roi, viewport))
    const slice = shown.place.at(-3) + panel.onward
    if (on.length === 0 || slice < 0 || slice >= panel.facts.size[0]) return
    const has = (name) => this.rois.some((roi) => roi.series === panel.state.series && roi.slice === slice && roi.name === name)
    this.keep([...this.rois, ...on.filter(({name}) => !has(name)).map((roi) => ({...roi, slice}))])
    if (panel.go(panel.tags, slice)) this.viewer.follow(panel)
  }

  change(changes) { if (this.picked >= 0) this.keep(this.rois.map((roi, n) => (n === this.picked ? {...roi, ...changes} : roi))) }

  toggleTags(viewport) {
    const {panel, shown} = viewport
    const roi = this.pickedIn(viewport)
    if (roi !== undefined && panel.tags > 0) this.change({tags: roi.tags === null ? shown.place.slice(0, panel.tags) : null})
  }

  remove(viewport) {
    if (this.pickedIn(viewport) === undefined) return
    const gone = this.picked
    this.picked = -1
    this.keep(this.rois.filter((_, n) => n !== gone))
    this.viewer.showState()
  }

  /** Those of one name are one region, and have one colour; the first is that of a voxel. */
  colour({series, name}) {
    const names = new Set(this.rois.filter((roi) => roi.series === series).map((roi) => roi.name))
    return COLOURS[1 + ([...names].indexOf(name) % (COLOURS.length - 1))]
  }

  paintAll() { this.viewer.viewports.forEach((viewport) => this.paint(viewport)) }

  paint(viewport) {
    const {svg, panel} = viewport
    if (!svg || !panel) return
    svg.replaceChildren()
    const path = (points) => points.map((v) => viewport.toScreen(v).map((x) => x.toFixed(1)).join(",")).join(" ")
    this.rois.forEach((roi, n) => {
      if (!this.isOn(roi, viewport)) return
      const color = this.colour(roi)
      const points = outline(roi)
      element("polygon", {points: path(points), fill: color, "fill-opacity": 0.15, stroke: color, "stroke-width": 2}, svg)
      const [x, y] = viewport.toScreen(points.reduce((best, v) => (v[1] > best[1] ? v : best)))
      const label = element("text", {x: x + 6, y, fill: color, "font-size": 11}, svg)
      const told = `${roi.tags === null ? "" : " (here)"}${this.measured(viewport, roi)}`
      const {width} = viewport.view.frame.bbox
      label.textContent = `${roi.name}${told}`
      const over = label.getComputedTextLength() - (width - 4) // what is measured is not cut off
      if (over > 0) {
        const letter = label.getComputedTextLength() / label.textContent.length
        label.textContent = `${shortened(roi.name, roi.name.length - Math.ceil(over / letter) - 2)}${told}`
      }
      const room = width - 2 - label.getComputedTextLength()
      if (x + 6 > room) label.setAttribute("x", Math.max(2, room))
      if (n !== this.picked) return
      for (const vertex of roi.vertices) {
        const [cx, cy] = viewport.toScreen(vertex)
        element("circle", {cx, cy, r: 4, fill: "#000", stroke: color, "stroke-width": 2}, svg)
      }
    })
    if (this.begun !== null && this.isOn(this.begun, viewport)) {
      const points = this.tool === "ellipse" && this.begun.end ? this.box() : [...this.begun.points, ...(this.begun.end ? [this.begun.end] : [])]
      element("polyline", {points: path(points), fill: "none", stroke: "#fff", "stroke-width": 1.5, "stroke-dasharray": "4 2"}, svg)
    }
    const mark = viewport.mark()
    if (mark !== null) {
      const [x, y] = viewport.toScreen(mark)
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
    // It is painted again with every move of the mouse.
    if (this.known.get(roi)?.values !== shown.values) {
      const {count, mean, std} = measured([roi], shown.values, panel.facts.size[1], panel.facts.size[2])
      const text = count === 0 ? "" : `\u00a0 ${Number(mean.toPrecision(4))} ± ${Number(std.toPrecision(3))}  n ${count}`
      this.known.set(roi, {values: shown.values, text})
    }
    return this.known.get(roi).text
  }
}
