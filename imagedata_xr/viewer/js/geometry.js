// Numbers and letters: no browser is needed for these.

export const SIDES = [[1, 2], [0, 2], [0, 1]] // vertical and horizontal axis of the planes across slice, row and col
export const LETTERS = ["LR", "PA", "HF"] // of growing and falling x, y, z [LPS+]

export const clamp = (x, low, high) => Math.min(high, Math.max(low, x))

/** Number at which a position lies, between two where it does; beyond the last ones it goes on in steps. */
export function numberAt(positions, step, x) {
  const last = positions.length - 1
  const beyond = (n) => (x - positions[n]) / step
  if (beyond(0) <= 0) return beyond(0)
  if (beyond(last) >= 0) return last + beyond(last)
  const n = positions.findIndex((_, i) => beyond(i) < 0) - 1
  return n + (x - positions[n]) / (positions[n + 1] - positions[n])
}

/** Letters of a direction, the strongest first, two or three where it is oblique. */
export function letters(direction) {
  const order = [0, 1, 2].sort((a, b) => Math.abs(direction[b]) - Math.abs(direction[a]))
  return order.filter((n) => Math.abs(direction[n]) > 0.2).map((n) => LETTERS[n][direction[n] > 0 ? 0 : 1]).join("")
}

/** Frame number of [tags..., slice]: the last runs fastest. */
export const frameNumber = (place, shape) => shape.reduce((k, size, n) => k * size + place[n], 0)

/** What has one key, for each key. Browsers older than 2024 have no Map.groupBy. */
export function grouped(all, keyOf) {
  const found = new Map()
  for (const one of all) found.set(keyOf(one), [...(found.get(keyOf(one)) ?? []), one])
  return found
}

/** Vertices of a ROI as a polygon: [row, col] each. */
export function outline({kind, vertices}) {
  if (kind !== "ellipse") return vertices
  const [c, a, b] = vertices
  return Array.from({length: 64}, (_, n) => {
    const [x, y] = [Math.cos((n * Math.PI) / 32), Math.sin((n * Math.PI) / 32)]
    return [0, 1].map((i) => c[i] + (a[i] - c[i]) * x + (b[i] - c[i]) * y)
  })
}

/** First and last row of a ROI, and what marks the pixels of a row whose centres are inside: the rules of imagedata_xr.viewer.roi. */
function marker({kind, vertices}) {
  if (kind !== "ellipse") {
    const rows = vertices.map(([row]) => row)
    return [Math.min(...rows), Math.max(...rows), (row, into) => {
      const crossed = []
      vertices.forEach(([r0, c0], n) => {
        const [r1, c1] = vertices[(n + 1) % vertices.length]
        if (r0 > row !== r1 > row) crossed.push(((c1 - c0) * (row - r0)) / (r1 - r0) + c0)
      })
      crossed.sort((x, y) => x - y)
      for (let n = 0; n < crossed.length; n += 2)
        for (let c = Math.max(0, Math.ceil(crossed[n])); c < Math.min(into.length, crossed[n + 1]); c++) into[c] = 1
    }]
  }
  const [c, a, b] = vertices
  const [ar, ac, br, bc] = [a[0] - c[0], a[1] - c[1], b[0] - c[0], b[1] - c[1]]
  const area = ar * bc - ac * br
  const [high, wide] = [Math.hypot(ar, br), Math.hypot(ac, bc)]
  return [c[0] - high, c[0] + high, (row, into) => {
    if (Math.abs(area) < 1e-9) return // a line
    for (let n = Math.max(0, Math.ceil(c[1] - wide)); n <= Math.min(into.length - 1, c[1] + wide); n++) {
      const [u, v] = [((row - c[0]) * bc - (n - c[1]) * br) / area, ((n - c[1]) * ar - (row - c[0]) * ac) / area]
      if (u * u + v * v < 1) into[n] = 1
    }
  }]
}

/** Count, mean and standard deviation of the finite values of a frame inside any of some ROIs, each voxel once. */
export function measured(rois, values, rows, cols) {
  const markers = rois.map(marker)
  const first = Math.max(0, Math.ceil(Math.min(...markers.map(([from]) => from))))
  const last = Math.min(rows - 1, Math.max(...markers.map(([, to]) => to)))
  const inside = new Uint8Array(cols)
  let [count, mean, squares] = [0, 0, 0]
  for (let r = first; r <= last; r++) {
    inside.fill(0)
    for (const [,, mark] of markers) mark(r, inside)
    for (let c = 0; c < cols; c++) {
      const x = values[r * cols + c]
      if (inside[c] === 0 || !Number.isFinite(x)) continue
      const off = x - mean
      mean += off / ++count
      squares += off * (x - mean)
    }
  }
  return {count, mean, std: Math.sqrt(squares / count)}
}

/** A text of no more letters than there is room for; its beginning and its end tell it from others, so the middle goes. */
export function shortened(text, most) {
  const room = Math.max(3, most)
  if (text.length <= room) return text
  const end = Math.floor((room - 1) / 3)
  return `${text.slice(0, room - 1 - end)}…${text.slice(text.length - end)}`
}

export const SIGMOID_BEYOND = 2 // widths of a window on either side, where a sigmoid is black and white

/** A palette bent along the sigmoid of a window (PS3.3 C.11.2.1.3.1), for values from beyond to beyond it. */
export function alongSigmoid(palette) {
  const count = palette.length
  return Array.from({length: (2 * SIGMOID_BEYOND + 1) * count}, (_, n) => {
    const widths = (n + 0.5) / count - SIGMOID_BEYOND - 0.5
    return palette[Math.round((count - 1) / (1 + Math.exp(-4 * widths)))]
  })
}
