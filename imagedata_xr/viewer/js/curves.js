import {frameNumber, grouped, measured, shortened} from "./geometry.js"
import {COLOURS} from "./drawing.js"
import {put, set} from "./viewport.js"

const LEGEND_LINE = 13 // pixels
const LEGEND_LETTER = 6 // pixels
const BESIDE_LEGEND = 100 // pixels: what is left of the curves, and the colour of a line

/** Values of a voxel and means of regions along a tag dim, in a figure beside. */
export class Curves {
  constructor(viewer) {
    Object.assign(this, {viewer, at: null, isDue: false, known: new Map(), told: "", height: viewer.args.curveFigure?.height})
  }

  get source() { return this.viewer.args.curves }

  /** The panel whose curves are shown; undefined if it has none. */
  get panel() {
    const panel = this.viewer.activePanel
    return this.source === null || !panel || panel.tags === 0 || panel.facts.isColour ? undefined : panel
  }

  /** Frames along the tag dim that are needed for the curves of a panel, and were not measured yet. */
  * wanted(panel) {
    if (panel !== this.panel) return
    for (const {slice, known} of this.parts(panel))
      for (let n = 0; n < panel.frames.shape[panel.tag]; n++) {
        const k = this.number(panel, n, slice)
        if (!known.has(k)) yield k
      }
  }

  shown(panel) { return this.viewer.drawing.rois.filter((roi) => roi.series === panel.state.series && roi.tags === null) }

  number(panel, n, slice) {
    const place = [...panel.framePlace.slice(0, -1), slice]
    place[panel.tag] = n
    return frameNumber(place, panel.frames.shape)
  }

  /** What is measured for the curves of a panel, slice by slice: sum and count, which stay when a frame has to go. */
  parts(panel) {
    const {series} = panel.state
    const [, rows, cols] = panel.facts.size
    const parts = []
    const add = (name, color, slice, what, measure) => {
      const key = JSON.stringify([series, slice, what])
      parts.push({name, color, slice, key, measure, known: this.known.get(key) ?? new Map()})
    }
    if (this.at?.panel === panel) {
      const [slice, row, col] = this.at.index
      add(`slice ${slice}, row ${row}, col ${col}`, COLOURS[0], slice, [row, col], (frame) => [frame[row * cols + col], 1])
    }
    for (const [name, rois] of grouped(this.shown(panel), (roi) => roi.name))
      for (const [slice, some] of grouped(rois, (roi) => roi.slice)) // parts of one region may overlap
        add(name, this.viewer.drawing.colour(rois[0]), slice, some, (frame) => {
          const {count, mean} = measured(some, frame, rows, cols)
          return [count * mean, count]
        })
    return parts
  }

  later() {
    if (this.isDue || this.source === null) return
    this.isDue = true
    setTimeout(() => { this.isDue = false; this.draw() }, 60)
  }

  draw() {
    const {panel} = this
    if (panel === undefined) {
      if (this.source !== null) this.tell({name: [], color: [], xs: [], ys: []}, " ", " ", " ")
      return
    }
    const tag = panel.facts.tags[panel.tag]
    const xs = tag.values ?? tag.labels.map((_, n) => n)
    const parts = this.parts(panel)
    this.known = new Map(parts.map(({key, known}) => [key, known])) // of what is gone nothing is kept
    for (const {slice, known, measure} of parts)
      xs.forEach((_, n) => {
        const k = this.number(panel, n, slice)
        const frame = known.has(k) ? undefined : panel.frames.get(k)
        if (frame !== undefined) known.set(k, measure(frame))
      })
    const curves = [...grouped(parts, ({name, color}) => `${color} ${name}`).values()]
    const ys = curves.map((some) => xs.map((_, n) => {
      const found = some.map(({slice, known}) => known.get(this.number(panel, n, slice)))
      if (found.includes(undefined)) return NaN
      const [sum, count] = found.reduce(([s, c], [sum, count]) => [s + sum, c + count], [0, 0])
      return count ? sum / count : NaN
    }))
    const label = tag.unit ? `${tag.name} [${tag.unit}]` : tag.name
    const {unit} = panel.facts
    const hint = curves.length ? " " : `click in a picture: values along ${tag.name}`
    this.tell({name: curves.map(([{name}]) => name), color: curves.map(([{color}]) => color), xs: curves.map(() => xs), ys}, label,
      unit ? `value [${unit}]` : "value", hint)
    for (const viewport of this.viewer.showing(panel)) viewport.want()
  }

  tell(data, label, value, hint) {
    const told = JSON.stringify([data, label, value, hint])
    if (told === this.told) return
    this.told = told
    const {curveFigure} = this.viewer.args
    const {below, left, title} = curveFigure
    set(below[0], {axis_label: label})
    set(left[0], {axis_label: value})
    set(title, {text: hint})
    const names = this.legend(data.name)
    const room = Math.floor(this.height / 4 / LEGEND_LINE) // for more names the figure grows: the curves are not squeezed
    set(curveFigure, {height: this.height + LEGEND_LINE * Math.max(0, new Set(names).size - room)})
    put(this.source, {...data, name: names})
  }

  /** Names as the legend has room for them: one that is too wide would lie over the pictures, without its colour. */
  legend(names) {
    const most = Math.floor((this.viewer.args.curveFigure.width - BESIDE_LEGEND) / LEGEND_LETTER)
    const short = names.map((name) => shortened(name, most))
    const isTaken = (n) => short.some((other, k) => k < n && other === short[n] && names[k] !== names[n])
    return short.map((name, n) => (isTaken(n) ? `${name} ${n + 1}` : name))
  }
}
