import {frameNumber, grouped, valuesInside} from "./geometry.js"
import {COLOURS} from "./drawing.js"
import {put, set} from "./viewport.js"

/** Values of a voxel and means of regions along a tag dim, in a figure beside. */
export class Curves {
  constructor(viewer) { Object.assign(this, {viewer, at: null, isDue: false}) }

  get source() { return this.viewer.args.curves }

  /** Frames along the tag dim that are needed for the curves of a panel. */
  * wanted(panel) {
    if (this.source === null || panel.tags === 0 || panel !== this.viewer.activePanel) return
    if (this.at === null && this.shown(panel).length === 0) return
    for (const slice of this.slices(panel))
      for (let n = 0; n < panel.frames.shape[panel.tag]; n++) yield this.number(panel, n, slice)
  }

  slices(panel) {
    const of = this.shown(panel).map((roi) => roi.slice)
    return [...new Set(this.at?.panel === panel ? [this.at.index[0], ...of] : of)]
  }

  shown(panel) { return this.viewer.drawing.rois.filter((roi) => roi.series === panel.state.series && roi.tags === null) }

  number(panel, n, slice) {
    const place = [...panel.framePlace.slice(0, -1), slice]
    place[panel.tag] = n
    return frameNumber(place, panel.frames.shape)
  }

  later() {
    if (this.isDue || this.source === null) return
    this.isDue = true
    setTimeout(() => { this.isDue = false; this.draw() }, 60)
  }

  draw() {
    const panel = this.viewer.activePanel
    if (this.source === null || !panel || panel.tags === 0 || panel.facts.isColour) return
    const tag = panel.facts.tags[panel.tag]
    const xs = tag.values ?? tag.labels.map((_, n) => n)
    const [, rows, cols] = panel.facts.size
    const along = (slice, value) => xs.map((_, n) => {
      const frame = panel.frames.get(this.number(panel, n, slice))
      return frame === undefined ? NaN : value(frame)
    })
    const found = []
    if (this.at?.panel === panel) {
      const [slice, row, col] = this.at.index
      found.push([`slice ${slice}, row ${row}, col ${col}`, COLOURS[0], along(slice, (frame) => frame[row * cols + col])])
    }
    const byName = grouped(this.shown(panel), (roi) => roi.name)
    for (const [name, rois] of byName) {
      // Parts of one region may overlap.
      const parts = [...grouped(rois, (roi) => roi.slice)].map(([slice, some]) => along(slice, (frame) => {
        const values = valuesInside(some, frame, rows, cols)
        return [values.reduce((a, b) => a + b, 0), values.length]
      }))
      found.push([name, this.viewer.drawing.colour(rois[0]), xs.map((_, n) => {
        const [sum, count] = parts.reduce(([s, c], part) => [s + (part[n]?.[0] ?? NaN), c + (part[n]?.[1] ?? 0)], [0, 0])
        return count ? sum / count : NaN
      })])
    }
    set(this.viewer.args.curveFigure.below[0], {axis_label: tag.unit ? `${tag.name} [${tag.unit}]` : tag.name})
    put(this.source, {
      name: found.map(([name]) => name), color: found.map(([, color]) => color), xs: found.map(() => xs), ys: found.map(([,, ys]) => ys),
    })
    for (const viewport of this.viewer.showing(panel)) panel.frames.want(viewport.wanted())
  }
}
