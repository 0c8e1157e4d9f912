"""Draws curves as SVG."""
import math
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 360, 70, 50, 40
COLOURS = ["#0b6", "#06c", "#c30", "#909", "#666", "#c80"]


def scale(values, low, high, logarithmic):
    """Returns the function from a value to a position."""
    change = math.log10 if logarithmic else float
    first, last = change(min(values)), change(max(values))
    return lambda value: low + (high - low) * ((change(value) - first) / ((last - first) or 1))


def svg(curve):
    """Draws `{title, x, y, log, series: {name: [[x, y], …]}}`; the x axis is logarithmic with `log`, the y axis begins at zero."""
    points = [point for series in curve["series"].values() for point in series]
    if not points:
        return "<svg xmlns='http://www.w3.org/2000/svg'/>"
    xs = sorted({x for x, _ in points})
    across = scale(xs, LEFT, WIDTH - 20, curve.get("log") and xs[0] > 0)
    up = scale([0, max(y for _, y in points) or 1], HEIGHT - BOTTOM, TOP, False)
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' font-family='sans-serif' font-size='12'>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='white'/>",
        f"<text x='{LEFT}' y='18' font-size='14'>{escape(curve['title'])}</text>",
        f"<text x='{WIDTH / 2}' y='{HEIGHT - 10}' text-anchor='middle'>{escape(curve['x'])}</text>",
        f"<text x='8' y='{TOP - 8}'>{escape(curve['y'])}</text>",
    ]
    top = max(y for _, y in points) or 1
    for part in range(5):
        value, y = top * part / 4, up(top * part / 4)
        parts.append(f"<line x1='{LEFT}' x2='{WIDTH - 20}' y1='{y:.1f}' y2='{y:.1f}' stroke='#ddd'/>")
        parts.append(f"<text x='{LEFT - 6}' y='{y + 4:.1f}' text-anchor='end'>{value:,.4g}</text>")
    for x in xs:
        parts.append(f"<text x='{across(x):.1f}' y='{HEIGHT - BOTTOM + 16}' text-anchor='middle'>{x:,g}</text>")
    for n, (name, series) in enumerate(curve["series"].items()):
        colour = COLOURS[n % len(COLOURS)]
        line = " ".join(f"{across(x):.1f},{up(y):.1f}" for x, y in sorted(map(tuple, series)))
        parts.append(f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2'/>")
        parts += [f"<circle cx='{across(x):.1f}' cy='{up(y):.1f}' r='3' fill='{colour}'/>" for x, y in series]
        parts.append(f"<text x='{WIDTH - 24}' y='{TOP + 14 * n}' text-anchor='end' fill='{colour}'>{escape(name)}</text>")
    return "\n".join([*parts, "</svg>"]) + "\n"
