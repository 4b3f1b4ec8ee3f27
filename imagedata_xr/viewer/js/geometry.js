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

/** Whether a pixel centre is inside a ROI: the rules of imagedata_xr.viewer.roi. */
export function inside({kind, vertices}, row, col) {
  if (kind === "ellipse") {
    const [c, a, b] = vertices
    const [ar, ac, br, bc] = [a[0] - c[0], a[1] - c[1], b[0] - c[0], b[1] - c[1]]
    const area = ar * bc - ac * br
    if (Math.abs(area) < 1e-9) return false
    const [u, v] = [((row - c[0]) * bc - (col - c[1]) * br) / area, ((col - c[1]) * ar - (row - c[0]) * ac) / area]
    return u * u + v * v < 1
  }
  let is = false
  vertices.forEach(([r0, c0], n) => {
    const [r1, c1] = vertices[(n + 1) % vertices.length]
    if (r0 > row !== r1 > row && col < ((c1 - c0) * (row - r0)) / (r1 - r0) + c0) is = !is
  })
  return is
}

/** Values of a frame inside any of some ROIs, each voxel once. */
export function valuesInside(rois, values, rows, cols) {
  const points = rois.flatMap(outline)
  const [low, high] = [0, 1].map((i) => [Math.min(...points.map((p) => p[i])), Math.max(...points.map((p) => p[i]))])
  const found = []
  for (let r = Math.max(0, Math.ceil(low[0])); r <= Math.min(rows - 1, low[1]); r++)
    for (let c = Math.max(0, Math.ceil(high[0])); c <= Math.min(cols - 1, high[1]); c++)
      if (rois.some((roi) => inside(roi, r, c)) && Number.isFinite(values[r * cols + c])) found.push(values[r * cols + c])
  return found
}

export const mean = (values) => values.reduce((sum, x) => sum + x, 0) / values.length

export const SIGMOID_BEYOND = 2 // widths of a window on either side, where a sigmoid is black and white

/** A palette bent along the sigmoid of a window (PS3.3 C.11.2.1.3.1), for values from beyond to beyond it. */
export function alongSigmoid(palette) {
  const count = palette.length
  return Array.from({length: (2 * SIGMOID_BEYOND + 1) * count}, (_, n) => {
    const widths = (n + 0.5) / count - SIGMOID_BEYOND - 0.5
    return palette[Math.round((count - 1) / (1 + Math.exp(-4 * widths)))]
  })
}
