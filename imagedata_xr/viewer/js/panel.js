import {clamp, frameNumber, numberAt} from "./geometry.js"

/** One image as it is browsed: where, and in which window. */
export class Panel {
  constructor(number, facts, frames, state, viewer) {
    Object.assign(this, {number, facts, frames, state, viewer, direction: 1, onward: 1, tag: 0, first: 0})
    frames.listeners.push(() => {
      for (const viewport of viewer.showing(this)) if (!viewport.drawn || viewport.shown.missing.size > 0) viewer.later(viewport)
      if (frames.asked.size === 0) for (const viewport of viewer.showing(this)) viewport.want()
      viewer.curves.later()
    })
    for (const name of ["place", "plane"])
      state.properties[name].change.connect(() => {
        this.tryAgain()
        frames.fetched.clear()
      })
    for (const name of ["place", "plane", "low", "high", "colormap", "inverted"])
      state.properties[name].change.connect(() => viewer.showing(this).forEach((viewport) => viewer.later(viewport)))
  }

  get framePlace() { return this.state.place.slice(0, -2) }
  get tags() { return this.facts.tags.length }

  /** Numbers of the frames that are needed for the picture at this place. */
  get needed() {
    const {frames, framePlace} = this
    if (this.state.plane === 0) return [frameNumber(framePlace, frames.shape)]
    return Array.from({length: this.facts.size[0]}, (_, z) => frameNumber([...framePlace.slice(0, -1), z], frames.shape))
  }

  /** What could not be read may have come back by the time that one returns to it. */
  tryAgain() { for (const k of this.needed) this.frames.failed.delete(k) }

  round(x) { return this.facts.isWhole ? Number(x.toFixed(1)) : Number(x.toPrecision(4)) }

  /** Go to a number along an axis of place: tags, then slice, row, col. */
  go(axis, number) {
    const sizes = [...this.facts.tags.map((tag) => tag.labels.length), ...this.facts.size]
    const to = clamp(Math.round(number), 0, sizes[axis] - 1)
    if (to === this.state.place[axis]) return false
    this.direction = to > this.state.place[axis] ? 1 : -1
    if (axis === this.tags) this.onward = this.direction // along the slices alone
    this.state.place = this.state.place.map((x, n) => (n === axis ? to : x))
    return true
  }

  /** The point [mm, LPS+] of (slice, row, col) numbers, or null. */
  point(index) {
    const {directions, positions, steps} = this.facts
    if (!directions) return null
    const along = index.map((x, n) => {
      const near = clamp(Math.round(x), 0, positions[n].length - 1)
      return positions[n][near] + (x - near) * steps[n]
    })
    return [0, 1, 2].map((i) => along.reduce((sum, a, n) => sum + a * directions[n][i], 0))
  }

  /** (slice, row, col) numbers of a point, between voxels, or null: down and right are at right angles to the normal. */
  index(point) {
    const {directions, positions, steps} = this.facts
    if (!directions) return null
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
    const [across, down, right] = directions
    const normal = [right[1] * down[2] - right[2] * down[1], right[2] * down[0] - right[0] * down[2], right[0] * down[1] - right[1] * down[0]]
    const slice = dot(point, normal)
    const rest = point.map((x, i) => x - slice * across[i])
    return [slice, dot(rest, down), dot(rest, right)].map((x, n) => numberAt(positions[n], steps[n], x))
  }

  /** Whether the points of two panels are those of one patient: two images of no known frame of reference tell nothing. */
  sharesPlace(other) {
    const {directions, frameOfReference} = this.facts
    return directions !== null && other.facts.directions !== null && (this.facts === other.facts ||
      (frameOfReference !== "" && frameOfReference === other.facts.frameOfReference))
  }
}
