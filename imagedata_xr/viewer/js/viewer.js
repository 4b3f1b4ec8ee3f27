// Browsing, windowing and drawing, all in the browser: Python only delivers frames that are not here yet.
// BokehJS calls the default export when a figure is laid out; it finds or makes the viewer, and wires the figure.
import {Curves} from "./curves.js"
import {Drawing} from "./drawing.js"
import {Frames} from "./frames.js"
import {LETTERS, SIDES, alongSigmoid, clamp} from "./geometry.js"
import {HELP, Hands} from "./hands.js"
import {Panel} from "./panel.js"
import {Viewport} from "./viewport.js"

export class Viewer {
  constructor(args) {
    Object.assign(this, {args, model: args.model, first: 0, dirty: new Set(), player: null, rate: 15, hasTexts: true, columns: args.columns})
    const facts = JSON.parse(args.facts)
    const frames = args.series.map((state, n) => new Frames(facts[n], state, args.isLive, args.budgets[n]))
    this.drawing = new Drawing(Object.assign(this, {viewports: []}))
    this.curves = new Curves(this)
    this.hands = new Hands(this)
    this.panels = args.panels.map((state, n) => new Panel(n, facts[state.series], frames[state.series], state, this))
    this.first = clamp(this.model.page, 0, Math.max(0, this.panels.length - args.figures.length))
    this.viewports = args.figures.map((_, n) => new Viewport(this, n))
    for (const name of ["link", "link_windows", "active"])
      this.model.properties[name].change.connect(() => { this.mark(); this.showState(); this.curves.later() })
    this.model.properties.page.change.connect(() => this.turn(0))
  }

  get activePanel() { return this.viewports[this.model.active]?.panel }

  wire(index) {
    this.args.figures.forEach((figure, n) => {
      const view = index.find_one(figure)
      if (view) this.viewports[n].wire(view)
    })
    const bar = index.find_one(this.args.bar)
    if (bar && !this.bar) this.makeBar(bar)
  }

  /** Leave the frames of a viewer that is no longer on the page; if it comes back it asks for them again. */
  spare() {
    if (this.args.isLive && this.viewports.every(({el}) => !el?.isConnected))
      for (const {frames} of this.panels) frames.clear()
  }

  showing(panel) { return this.viewports.filter((viewport) => viewport.panel === panel) }

  /** Draw once for all that changes within one task. A frame of animation more would halve the rate: bokeh waits for one. */
  later(viewport) {
    if (this.dirty.size === 0) queueMicrotask(() => {
      const due = [...this.dirty]
      this.dirty.clear()
      for (const one of due) {
        one.draw()
        if (one.pointer && one.el?.matches(":hover")) this.read(one, one.pointer)
      }
      this.showOutline()
      this.curves.later() // those of another place, tag dim or series
    })
    this.dirty.add(viewport)
  }

  palette(colormap, isInverted, isSigmoid) {
    this.reversed ??= this.args.palettes.map((palette) => [...palette].reverse())
    this.sigmoid ??= [this.args.palettes, this.reversed].map((palettes) => palettes.map(alongSigmoid))
    return (isSigmoid ? this.sigmoid[Number(isInverted)] : isInverted ? this.reversed : this.args.palettes)[colormap]
  }

  presets(panel) { return this.args.presets.length > 0 && (panel.facts.isCT || this.args.presetsForAll) ? this.args.presets : [] }

  activate(number) {
    if (this.model.active !== number) this.model.active = number
    this.curves.later()
  }

  mark() {
    this.viewports.forEach((viewport, n) => {
      if (viewport.box) viewport.box.style.outline = n === this.model.active && this.viewports.length > 1 ? "1px solid #ffd54a" : ""
    })
  }

  turn(by) {
    const first = clamp((by === 0 ? this.model.page : this.first) + by, 0, Math.max(0, this.panels.length - this.viewports.length))
    if (this.model.page !== first) this.model.page = first
    if (this.first === first) return
    this.first = first
    for (const viewport of this.viewports) {
      viewport.here = null
      viewport.panel?.tryAgain()
      viewport.draw()
    }
    this.showState()
    this.curves.later()
  }

  /** Take linked panels to the slice nearest to where one is now. */
  follow(panel) {
    if (!this.model.link) return
    const {state, facts, tags} = panel
    const index = state.place.slice(-3).map((x, n) => (n === state.plane ? x : (facts.size[n] - 1) / 2))
    const point = panel.point(index)
    for (const other of this.panels) {
      if (other === panel) continue
      const axis = other.state.plane
      if (this.args.linkBy === "index") other.go(other.tags + axis, state.place[tags + state.plane])
      else if (panel.sharesPlace(other)) other.go(other.tags + axis, other.index(point)[axis])
    }
  }

  click(viewport, at) {
    const {panel} = viewport
    const index = viewport.indexAt(at).map(Math.round)
    if (index.some((x, n) => x < 0 || x >= panel.facts.size[n])) return
    this.curves.at = {panel, index}
    viewport.here = index
    this.drawing.paint(viewport)
    // Other planes of the same image go to the point.
    const point = panel.point(index)
    for (const other of this.panels) {
      if (other === panel || point === null || !panel.sharesPlace(other) || !(this.model.link || other.facts === panel.facts)) continue
      other.index(point).forEach((x, n) => other.go(other.tags + n, x))
    }
    this.curves.later()
  }

  /** Tell value and place under the mouse, and show the place in the other viewports. */
  read(viewport, at) {
    const {panel, shown} = viewport
    if (!shown) return
    const index = viewport.indexAt(at)
    const rounded = index.map(Math.round)
    if (rounded.some((x, n) => x < 0 || x >= panel.facts.size[n])) { this.hands.leave(); return }
    const [down, right] = SIDES[panel.state.plane]
    const value = shown.values?.[rounded[down] * panel.facts.size[right] + rounded[right]]
    const told = shown.missing.has(rounded[0]) || value === undefined ? "…" :
      panel.facts.isColour ? [0, 8, 16].map((bits) => (value >>> bits) & 255).join(" ") :
      panel.facts.isWhole ? String(value) : String(Number(value.toPrecision(6)))
    const point = panel.point(index)
    const side = (x, n) => `${LETTERS[n][x < 0 ? 1 : 0]} ${Math.abs(x).toFixed(1)}`
    this.readout(`${panel.facts.valueName} ${told}   slice ${rounded[0]} row ${rounded[1]} col ${rounded[2]}` +
      (point ? `   ${point.map(side).join("  ")} mm` : ""))
    this.cross(viewport, point)
  }

  cross(from, point) {
    for (const viewport of this.viewports) {
      if (viewport === from) continue
      const {panel} = viewport
      const isThere = from && point && panel && panel.sharesPlace(from.panel)
      const next = isThere ? panel.index(point) : null
      if (next === null && viewport.here === null) continue
      viewport.here = next
      this.drawing.paint(viewport)
    }
  }

  readout(text) { if (this.line && this.line.textContent !== text) this.line.textContent = text }

  setRate(rate) {
    this.rate = clamp(rate, 1, 60)
    if (this.player !== null) { this.cine(this.playing); this.cine(this.playing) }
  }

  /** Start or stop to play: along the tag dim, else, also where it has one label, the slices; a frame that is not here yet is waited for. */
  cine(viewport) {
    if (this.player !== null) {
      clearInterval(this.player)
      this.player = null
    } else {
      this.playing = viewport
      this.player = setInterval(() => {
        const {panel} = viewport
        if (!panel || !viewport.drawn || !viewport.el.isConnected) return // a cell that was run again asks for nothing
        const along = panel.tags > 0 && panel.frames.shape[panel.tag] > 1 ? panel.tag : panel.tags + panel.state.plane
        const size = [...panel.frames.shape, ...panel.facts.size.slice(1)][along]
        if (!panel.go(along, (panel.state.place[along] + 1) % size)) return
        if (along < panel.tags) this.hands.followTag(panel, along)
        else this.follow(panel)
      }, 1000 / this.rate)
    }
    this.showState()
  }

  toggleTexts() {
    this.hasTexts = !this.hasTexts
    for (const {texts} of this.viewports)
      for (const [name, text] of Object.entries(texts)) if (name !== "notice") text.style.display = this.hasTexts ? "" : "none"
  }

  toggleHelp() {
    const {box} = this.viewports[this.model.active] ?? this.viewports[0]
    const old = box.querySelector("[data-help]")
    if (old) { old.remove(); return }
    const help = box.appendChild(document.createElement("div"))
    help.dataset.help = ""
    help.textContent = HELP.replace(/(\S) {2}(?=\S)/g, "$1\u00a0\u00a0") // a key stays beside what it does
    help.style.cssText = "position:absolute;inset:8px;padding:8px;background:rgba(0,0,0,.85);overflow:auto;white-space:pre-wrap;" +
      "pointer-events:auto" // in a small viewport it is scrolled
    help.onpointerdown = (event) => event.preventDefault() // keys go on to the viewport
    help.onclick = () => help.remove()
  }

  makeBar(view) {
    const root = view.shadow_el ?? view.el.shadowRoot ?? view.el
    this.bar = root.appendChild(document.createElement("div"))
    this.bar.style.cssText = "display:flex;flex-wrap:wrap;gap:4px;align-items:center;font:12px sans-serif;" +
      "color:#333;background:#fff;color-scheme:light" // it is read in a dark notebook, too
    const on = (act) => () => { const viewport = this.viewports[this.model.active]; if (viewport?.panel) act(viewport) }
    const button = (text, title, act) => {
      const made = this.bar.appendChild(document.createElement("button"))
      Object.assign(made, {textContent: text, title, onclick: on(act)})
      made.style.cssText = "font:12px sans-serif;padding:1px 6px;border:1px solid #bbb;border-radius:3px;color:#000;background:#f6f6f6;cursor:pointer"
      return made
    }
    this.buttons = {
      polygon: button("polygon", "draw corner by corner (g); Enter or double click ends it", () => this.drawing.take("polygon")),
      freehand: button("freehand", "draw an outline (f)", () => this.drawing.take("freehand")),
      ellipse: button("ellipse", "draw an ellipse (e)", () => this.drawing.take("ellipse")),
      copy: button("copy →", "copy regions to the next slice (c)", (viewport) => this.drawing.copyOn(viewport)),
      plane: button("plane", "slices, rows, columns (p)", (viewport) => this.hands.turnPlane(viewport)),
      auto: button("auto", "window of this slice (w)", (viewport) => viewport.shown?.values && this.hands.autoWindow(viewport.panel, viewport.shown.values)),
      cine: button("▶", "play (space)", (viewport) => this.cine(viewport)),
      link: button("link", "linked series go to the same place (l)", () => { this.model.link = !this.model.link }),
      help: button("?", "what mouse and keys do", () => this.toggleHelp()),
    }
    if (this.panels.length < 2) this.buttons.link.style.display = "none"
    this.name = this.bar.appendChild(document.createElement("input"))
    Object.assign(this.name, {title: "name of the region", onchange: () => this.drawing.change({name: this.name.value || "ROI"})})
    this.name.style.cssText = "font:12px sans-serif;width:9em;padding:1px 4px"
    this.name.addEventListener("keydown", (event) => event.stopPropagation())
    this.line = this.bar.appendChild(document.createElement("span"))
    this.line.style.cssText = "font:12px monospace;white-space:pre"
    this.showState()
  }

  showState() {
    if (!this.bar) return
    const isOn = {
      polygon: this.drawing.tool === "polygon", freehand: this.drawing.tool === "freehand", ellipse: this.drawing.tool === "ellipse",
      link: this.model.link, cine: this.player !== null,
    }
    for (const [name, is] of Object.entries(isOn)) this.buttons[name].style.background = is ? "#ffd54a" : "#f6f6f6"
    this.showOutline()
  }

  /** The name of the outline that is picked, if it is seen, and where one is that is not finished. */
  showOutline() {
    for (const viewport of this.viewports) if (viewport.shown && viewport.panel) viewport.tell("notice", viewport.notice())
    if (!this.bar) return
    const picked = this.drawing.pickedIn(...this.viewports)
    this.name.style.display = picked ? "" : "none"
    if (picked && picked !== this.named) this.name.value = picked.name // not while it is typed
    this.named = picked
  }
}

export default (args, _origin, _data, {index}) => {
  // One for each document, found by its model: every figure calls. Not by its id, which another kernel has as well.
  const viewers = (globalThis.imagedata_xr_viewers ??= new Map())
  if (!viewers.has(args.model)) {
    for (const other of viewers.values()) other.spare()
    viewers.set(args.model, new Viewer(args))
  }
  viewers.get(args.model).wire(index)
}
