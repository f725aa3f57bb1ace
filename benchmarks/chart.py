"""Draws the README's speed chart from one file of results: python benchmarks/chart.py RESULTS.json docs/speed.svg TITLE"""
import json
import sys

ENGINES = [("vitral", "Vitral", "#0b6e4f"), ("openvino", "OpenVINO", "#8aa1b1"),
           ("onnxruntime", "ONNX Runtime", "#b9c6d0"), ("pytorch", "PyTorch", "#dfe5ea")]
CELLS = ["Ti/16:1", "Ti/16:8", "S/16:1", "S/16:8", "B/16:1", "B/16:8"]
BAR, GAP, GROUP, LEFT, TOP, WIDTH = 11, 1, 14, 118, 62, 720


def main(results, out, title):
    rows = {row["cell"]: row["median_ms"] for row in json.load(open(results))["rows"]}
    speeds = {cell: {name: rows[cell]["pytorch"] / rows[cell][name] for name, _, _ in ENGINES} for cell in CELLS}
    scale = (WIDTH - LEFT - 60) / max(max(speed.values()) for speed in speeds.values())
    height = TOP + len(CELLS) * (len(ENGINES) * (BAR + GAP) + GROUP) + 8
    svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
           'font-family="system-ui, sans-serif" font-size="11">',
           f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
           f'<text x="16" y="22" font-size="14" font-weight="600" fill="#1b1f24">{title}</text>']
    x = 16
    for _, label, color in ENGINES:
        svg.append(f'<rect x="{x}" y="36" width="11" height="11" fill="{color}"/>'
                   f'<text x="{x + 16}" y="46" fill="#1b1f24">{label}</text>')
        x += 40 + 7 * len(label)
    y = TOP
    for cell in CELLS:
        model, batch = cell.split(":")
        middle = y + len(ENGINES) * (BAR + GAP) / 2 + 4
        svg.append(f'<text x="{LEFT - 10}" y="{middle}" text-anchor="end" fill="#1b1f24">{model}, batch {batch}</text>')
        for name, _, color in ENGINES:
            length = scale * speeds[cell][name]
            svg.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{color}"/>'
                       f'<text x="{LEFT + length + 5:.1f}" y="{y + 9}" fill="#57606a" font-size="9.5">'
                       f'{speeds[cell][name]:.2f}</text>')
            y += BAR + GAP
        y += GROUP
    svg.append("</svg>")
    open(out, "w").write("\n".join(svg) + "\n")


main(*sys.argv[1:4])
