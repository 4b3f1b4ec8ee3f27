export const HELP = `wheel, ↑ ↓  slices          ← →  first tag dim (time, b, …)
shift ← →  next tag dim      t  ← → go along the next one      Home End  first, last slice
drag  window: width ↔, level ↕       double click, r  reset
w  window of this slice      1…9  presets      i  invert      m  colours
right drag, + −  zoom        shift drag, middle drag  pan
p  plane: slices, rows, columns      click  values along tags
l  link places      L  link windows      space  cine      , .  slower, faster
PgUp PgDn  other series      h  texts      ?  this help
g  polygon (Enter or double click ends it)      f  freehand      e  ellipse
Esc  no tool      c  copy to next slice
of the one that is picked here:  a  all tags or this one      Del  remove
q  close
slice 3/5 counts from 1; the line below counts from 0, as Python does`

/** Whether text is being typed somewhere on the page: a mouse that passes by does not take the keys away. */
function isTyping() {
  let el = document.activeElement
  while (el?.shadowRoot?.activeElement) el = el.shadowRoot.activeElement
  return el !== null && (el.isContentEditable || el.matches("input, textarea, select"))
}

/** What mouse and keys do. */
export class Hands {
  constructor(viewer) { Object.assign(this, {viewer, drag: null, turned: 0}) }

  wire(viewport, el) {
    const {viewer} = this
    const at = (event) => {
      const {left, top} = el.getBoundingClientRect()
      const {left: x, top: y} = viewport.view.frame.bbox
      return [event.clientX - left - x, event.clientY - top - y]
    }
    const focus = () => el.focus({preventScroll: true})
    el.addEventListener("keydown", (event) => {
      if (!this.key(viewport, event)) return
      event.preventDefault()
      event.stopPropagation()
    })
    el.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return // the browser's own zoom
      event.preventDefault()
      event.stopPropagation()
      const unit = event.deltaMode === 1 ? 3 : 100
      this.turned += event.deltaY / unit
      if (Math.abs(this.turned) < 0.34 && Math.abs(event.deltaY) < unit / 2) return // trackpads send little by little
      const steps = Math.sign(this.turned) * Math.max(1, Math.floor(Math.abs(this.turned)))
      this.turned = 0
      this.step(viewport, -steps)
    }, {passive: false})
    el.addEventListener("contextmenu", (event) => event.preventDefault())
    const passing = () => { if (!isTyping()) focus() }
    el.addEventListener("pointerenter", passing)
    el.addEventListener("pointerdown", (event) => {
      if (!event.isPrimary) return // a second finger
      focus()
      viewer.activate(viewport.number)
      if (!viewport.panel) return
      event.preventDefault()
      el.setPointerCapture(event.pointerId)
      this.press(viewport, event, at(event))
    })
    el.addEventListener("pointermove", (event) => event.isPrimary && viewport.panel && this.move(viewport, event, at(event)))
    el.addEventListener("pointerup", (event) => event.isPrimary && viewport.panel && this.release(viewport, at(event)))
    el.addEventListener("pointercancel", () => this.cancel())
    el.addEventListener("pointerleave", () => this.leave())
    el.addEventListener("dblclick", (event) => {
      event.preventDefault()
      if (!viewer.drawing.finish() && viewport.panel) this.resetWindow(viewport.panel)
    })
    if (el.matches(":hover")) passing()
  }

  press(viewport, event, at) {
    const {panel, zoom} = viewport
    const {low, high} = panel.state
    const kind = event.button === 2 ? "zoom" : event.button === 1 || event.shiftKey ? "pan" : "window"
    if (kind === "window" && this.viewer.drawing.press(viewport, at)) return
    this.drag = {kind, viewport, stamp: viewport.stamp, at, low, high, zoom: {...zoom}, moved: false}
  }

  /** What was pressed is not held any more, and nobody has seen it released; or a key has shown another picture. */
  cancel() {
    this.drag = null
    this.viewer.drawing.drop()
  }

  move(viewport, event, at) {
    const {viewer, drag} = this
    viewport.pointer = at
    viewer.read(viewport, at)
    if (event.buttons === 0 || (drag !== null && drag.stamp !== drag.viewport.stamp)) this.cancel()
    if (this.drag === null && drag !== null) return
    if (drag === null || drag.viewport !== viewport) {
      viewer.drawing.move(viewport, at)
      return
    }
    const [dx, dy] = [at[0] - drag.at[0], at[1] - drag.at[1]]
    drag.moved ||= Math.hypot(dx, dy) > 2
    if (!drag.moved) return
    if (drag.kind === "window") this.dragWindow(viewport.panel, drag, dx, dy)
    else if (drag.kind === "pan") {
      const {flips} = viewport.plane
      viewport.zoom.x = drag.zoom.x - dx * drag.zoom.scale * (flips[1] ? -1 : 1)
      viewport.zoom.y = drag.zoom.y - dy * drag.zoom.scale * (flips[0] ? -1 : 1)
      viewport.fit()
    } else {
      viewport.zoom.scale = drag.zoom.scale * Math.exp(dy / 150)
      viewport.fit()
    }
    viewer.drawing.paint(viewport)
  }

  /** Drag a window: never to a width of 0, nor, of whole numbers, to less than one of them. */
  dragWindow(panel, drag, dx, dy) {
    const {facts} = panel
    const [wide, level] = this.viewer.args.swapped ? [dy, dx] : [dx, dy]
    const speed = (facts.high - facts.low) / 300
    const width = Math.max(speed / 10, facts.isWhole ? 1 : 0, drag.high - drag.low + wide * speed)
    const center = (drag.high + drag.low) / 2 + level * speed
    this.setWindow(panel, center - width / 2, center + width / 2)
  }

  release(viewport, at) {
    const {drag} = this
    this.drag = null
    if (drag === null) this.viewer.drawing.release(viewport, at)
    else if (drag.kind === "window" && !drag.moved && drag.stamp === viewport.stamp) this.viewer.click(viewport, at)
  }

  leave() {
    this.viewer.readout("")
    this.viewer.cross(null)
  }

  /** Colours have no window, and so none that others could share. */
  setWindow({state, facts}, low, high) {
    if (facts.isColour) return
    state.setv({low, high})
    if (this.viewer.model.link_windows)
      for (const {state: other, facts} of this.viewer.panels) if (other !== state && !facts.isColour) other.setv({low, high})
  }

  resetWindow(panel) { this.setWindow(panel, panel.facts.low, panel.facts.high) }

  autoWindow(panel, values) {
    if (panel.facts.isColour) return
    if (panel.facts.isMask) {
      this.setWindow(panel, 0, 1)
      return
    }
    const sorted = Float64Array.from(values).filter(Number.isFinite).sort()
    if (sorted.length === 0) return
    const at = (part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]
    let [low, high] = [at(0.01), at(0.99)]
    if (high <= low) [low, high] = [sorted[0], sorted.at(-1)]
    this.setWindow(panel, low, high > low ? high : low + Math.max(1, Math.abs(low) / 1e6))
  }

  step(viewport, by) {
    const {panel} = viewport
    if (!panel) return
    const axis = panel.tags + panel.state.plane
    if (panel.go(axis, panel.state.place[axis] + by)) this.viewer.follow(panel)
  }

  stepTag(panel, tag, by) {
    if (tag >= panel.tags || !panel.go(tag, panel.state.place[tag] + by)) return
    panel.tag = tag
    this.followTag(panel, tag)
  }

  /** Take linked panels to the same number along a tag dim. */
  followTag(panel, tag) {
    if (!this.viewer.model.link) return
    const {name} = panel.facts.tags[tag]
    for (const other of this.viewer.panels) {
      const same = other.facts.tags.findIndex((t) => t.name === name)
      if (other !== panel && same >= 0) other.go(same, panel.state.place[tag])
    }
  }

  key(viewport, event) {
    const {viewer} = this
    const {panel} = viewport
    if (!panel || event.altKey || event.metaKey) return false
    const {state, facts} = panel
    const tag = (panel.first + (event.shiftKey ? 1 : 0)) % Math.max(1, panel.tags)
    const preset = viewer.presets(panel)[Number(event.key) - 1]
    if (event.ctrlKey) {
      const pages = {Home: -Infinity, End: Infinity, ArrowLeft: -1, ArrowRight: 1, ArrowUp: -viewer.columns, ArrowDown: viewer.columns}
      if (!(event.key in pages)) return false
      viewer.turn(pages[event.key])
      return true
    }
    const keys = {
      ArrowUp: () => this.step(viewport, 1),
      ArrowDown: () => this.step(viewport, -1),
      ArrowRight: () => this.stepTag(panel, tag, 1),
      ArrowLeft: () => this.stepTag(panel, tag, -1),
      Home: () => this.step(viewport, -Infinity),
      End: () => this.step(viewport, facts.size[state.plane]),
      PageDown: () => viewer.turn(viewer.viewports.length),
      PageUp: () => viewer.turn(-viewer.viewports.length),
      w: () => viewport.shown.values && this.autoWindow(panel, viewport.shown.values),
      r: () => { this.resetWindow(panel); viewport.zoom = null; viewport.fit(); viewer.later(viewport) },
      i: () => { state.inverted = !state.inverted },
      m: () => { state.colormap = (state.colormap + 1) % viewer.args.palettes.length },
      p: () => this.turnPlane(viewport),
      t: () => {
        panel.tag = panel.first = (panel.first + 1) % Math.max(1, panel.tags)
        viewer.later(viewport)
      },
      l: () => { viewer.model.link = !viewer.model.link },
      L: () => { viewer.model.link_windows = !viewer.model.link_windows },
      h: () => viewer.toggleTexts(),
      "?": () => viewer.toggleHelp(),
      " ": () => viewer.cine(viewport),
      ",": () => viewer.setRate(viewer.rate / 1.25),
      ".": () => viewer.setRate(viewer.rate * 1.25),
      "+": () => { viewport.zoom.scale /= 1.25; viewport.fit(); viewer.drawing.paint(viewport) },
      "-": () => { viewport.zoom.scale *= 1.25; viewport.fit(); viewer.drawing.paint(viewport) },
      g: () => viewer.drawing.take("polygon"),
      f: () => viewer.drawing.take("freehand"),
      e: () => viewer.drawing.take("ellipse"),
      Escape: () => viewer.drawing.cancel(),
      Enter: () => viewer.drawing.finish(),
      c: () => viewer.drawing.copyOn(viewport),
      a: () => viewer.drawing.toggleTags(viewport),
      Delete: () => viewer.drawing.remove(viewport),
      Backspace: () => viewer.drawing.back(),
      q: () => { viewer.model.closed = true },
    }
    if (preset !== undefined) this.setWindow(panel, preset[0] - preset[1] / 2, preset[0] + preset[1] / 2)
    else if (Object.hasOwn(keys, event.key)) keys[event.key]()
    else return false
    return true
  }

  turnPlane(viewport) {
    const {state, facts} = viewport.panel
    if (facts.size[0] < 2) return
    if (facts.isEven) state.plane = (state.plane + 1) % 3
    else this.viewer.readout("slices are unevenly spaced; they cannot be cut in other planes")
  }
}
