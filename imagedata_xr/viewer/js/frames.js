import {frameNumber} from "./geometry.js"

const SMALL = 64 * 2 ** 20 // bytes of a series up to which all its frames are fetched
const AHEAD = 16 // frames on either side that are fetched of larger ones
const AT_A_TIME = 3
const LEAST = 2 * AT_A_TIME // frames for which there is room whatever their size

/** Frames of one series that are here, and the wish for others: nearest first, few at a time, the newest wish first. */
export class Frames {
  constructor(facts, state, isLive, budget) {
    Object.assign(this, {facts, state, isLive, kept: new Map(), asked: new Set(), failed: new Map(), patience: 2000})
    this.shape = [...facts.tags.map((tag) => tag.labels.length), facts.size[0]]
    this.count = this.shape.reduce((a, b) => a * b, 1)
    this.room = Math.max(LEAST, Math.floor(budget / facts.frameBytes))
    this.listeners = []
    this.fetched = new Set()
    this.keep(state.frames)
    state.properties.parcel.change.connect(() => this.receive())
  }

  /** Whether Python has not answered for a while: it is busy, or has ended, as of a notebook that was exported. */
  get isUnanswered() { return this.asked.size > 0 && this.patience >= 8000 }

  keep(pairs) {
    for (const [k, values] of pairs) {
      this.kept.delete(k)
      this.kept.set(k, values)
    }
    for (const k of this.kept.keys()) { // the longest unused go
      if (this.kept.size <= this.room) break
      this.kept.delete(k)
    }
  }

  clear() {
    this.kept.clear()
    this.fetched.clear()
  }

  get(k) {
    const values = this.kept.get(k)
    if (values !== undefined && this.kept.size > this.room / 2) this.keep([[k, values]])
    return values
  }

  receive() {
    const [, pairs, failures] = this.state.parcel
    this.patience = 2000
    for (const [k] of pairs) {
      this.asked.delete(k)
      this.failed.delete(k)
    }
    for (const [k, reason] of failures) {
      this.asked.delete(k)
      this.failed.set(k, reason)
    }
    this.keep(pairs)
    for (const listener of this.listeners) listener()
  }

  /**
   * Ask for what is missing of these numbers, as far as few are asked for already; then for what may be wanted next,
   * each once as long as one stays: where there is no room for all, what comes takes the place of what has come.
   */
  want(numbers, next) {
    if (!this.isLive) return
    const wanted = []
    const add = (some, passed) => {
      for (const k of some) {
        if (wanted.length + this.asked.size >= AT_A_TIME) return
        if (this.kept.has(k) || this.asked.has(k) || this.failed.has(k) || passed.has(k) || wanted.includes(k)) continue
        wanted.push(k)
      }
    }
    add(numbers, new Set())
    const needed = wanted.length
    add(next, this.fetched)
    for (const k of wanted.slice(needed)) this.fetched.add(k)
    if (wanted.length === 0) return
    for (const k of wanted) this.asked.add(k)
    // Counted on from what was asked last, maybe by another page of this session: the same again would not be heard.
    this.state.asked = [(this.state.asked[0] ?? 0) + 1, ...wanted]
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.askAgain(), this.patience)
  }

  /** A notebook that is being opened, or a kernel that starts again, loses what it is told. */
  askAgain() {
    if (this.asked.size === 0) return
    this.patience = Math.min(2 * this.patience, 60_000)
    for (const k of this.asked) this.fetched.delete(k)
    this.asked.clear()
    for (const listener of this.listeners) listener()
  }

  /** Numbers around a place, nearest first: along the slices, then along the tags; all if there is room. */
  * around(place, direction) {
    const at = (n, x) => frameNumber(place.map((p, i) => (i === n ? x : p)), this.shape)
    const last = this.shape.length - 1
    const isSmall = this.count * this.facts.frameBytes <= SMALL && this.count <= this.room
    let left = isSmall ? Infinity : this.room / 2
    for (const n of [last, ...Array(last).keys()])
      for (let r = 1; r <= AHEAD; r++)
        for (const x of r > 2 ? [place[n] + r * direction] : [place[n] + r * direction, place[n] - r * direction])
          if (x >= 0 && x < this.shape[n] && left-- > 0) yield at(n, x)
    if (isSmall) for (let k = 0; k < this.count; k++) yield k
  }

  /** The nearest slice of the same tags that is here, or undefined. */
  near(place) {
    const last = this.shape.length - 1
    for (let r = 0; r < this.shape[last]; r++)
      for (const z of [place[last] - r, place[last] + r]) {
        if (z < 0 || z >= this.shape[last]) continue
        const values = this.kept.get(frameNumber([...place.slice(0, last), z], this.shape))
        if (values !== undefined) return [z, values]
      }
    return undefined
  }
}
