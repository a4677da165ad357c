"""The style sheet: system fonts, light and dark, a colour-blind safe palette, print, phone.

Blue stands for the student, copper for the teacher, grey for what is only there to compare.
The selectors hold no `>` and no `&`, so that the sheet is the same text in HTML and in XML.
"""

from stillhouse.pages.markup import Markup

STYLE = Markup("""
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f6f7f8; --ink: #1a1f24; --muted: #59636e; --rule: #e1e5e9;
  --axis: #8b949e; --student: #0a6490; --teacher: #a04e0c; --shade: #0a64901f;
  --s1: #0a6490; --s2: #d98a1b; --s3: #3a8f6f; --s4: #7db7dd; --s5: #8a5a9e; --s0: #bcc4cc;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #13171b; --card: #1b2126; --ink: #e4e8eb; --muted: #9ba6b0; --rule: #2a3138;
    --axis: #6b7680; --student: #62b5e0; --teacher: #e59a58; --shade: #62b5e02e;
    --s1: #4fa3d1; --s2: #e0a03c; --s3: #56b48f; --s4: #a9d2ee; --s5: #b68acb; --s0: #55606a;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 4rem; max-width: 60rem;
  background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: break-word;
}
h1 { font-size: 1.125rem; margin: 0; font-weight: 600; }
h2 { font-size: 1.5rem; margin: 0 0 1rem; font-weight: 600; letter-spacing: -0.01em; }
h3 { font-size: 1.0625rem; margin: 2rem 0 0.375rem; font-weight: 600; }
h4 { font-size: 1rem; margin: 1.25rem 0 0.25rem; font-weight: 600; }
p { margin: 0 0 0.75rem; max-width: 44rem; }
ul { margin: 0 0 0.75rem; padding-left: 1.15rem; max-width: 44rem; }
li { margin: 0.2rem 0; }
a { color: var(--student); text-underline-offset: 0.15em; }
code { font: 0.875em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
section { margin: 3.5rem 0 0; }
main section:first-child { margin-top: 1.5rem; }
.small, .absent, figcaption p { color: var(--muted); font-size: 0.875rem; }
.absent { font-style: italic; }
.claim { font-size: 1.125rem; line-height: 1.45; }

.verdict { font-size: 1.75rem; line-height: 1.25; font-weight: 600; letter-spacing: -0.015em; }
.pays, .leave, .open { border-left: 4px solid var(--axis); padding: 0.1rem 0 0.1rem 1.1rem; }
.pays { border-color: var(--student); }
.leave { border-color: var(--teacher); }
.reasons { color: var(--muted); margin-bottom: 0; }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10.25rem, 1fr));
  gap: 1.25rem; margin: 2rem 0 0;
}
.tiles div { border-top: 1px solid var(--rule); padding-top: 0.6rem; }
.tiles dt { font-size: 0.875rem; color: var(--muted); }
.tiles dd { margin: 0; line-height: 1.35; }
.tiles .big { font-size: 2rem; font-weight: 600; line-height: 1.25; letter-spacing: -0.02em; }
nav { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 2rem 0 0; font-size: 0.875rem; }

.facts {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9.75rem, 1fr));
  gap: 0.75rem 1.25rem; margin: 0 0 1rem;
}
.facts div:has(code) { grid-column: span 2; }
.facts dt { font-size: 0.8125rem; color: var(--muted); }
.facts dd { margin: 0; line-height: 1.4; overflow-wrap: anywhere; }
.card { background: var(--card); border-radius: 6px; padding: 1.25rem; margin: 0 0 1.5rem; }
.card h3 { margin-top: 0; }
.card ul { margin-bottom: 0; }
.card p:last-child { margin-bottom: 0; }
.refused { border-left: 4px solid var(--teacher); }

.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: 0.875rem; line-height: 1.45; }
caption { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
th, td {
  text-align: left; vertical-align: top; font-weight: 400; unicode-bidi: isolate;
  padding: 0.4rem 1.25rem 0.4rem 0; border-bottom: 1px solid var(--rule);
}
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--muted); vertical-align: bottom; }
th, td { overflow-wrap: anywhere; min-width: 7rem; }
.n { text-align: right; white-space: nowrap; min-width: 0; }
q { display: inline-block; min-width: 14rem; color: var(--muted); quotes: "\\201C" "\\201D"; }
.whole { white-space: nowrap; }
.bar { vertical-align: -0.05em; margin-right: 0.3rem; }

.grade {
  border: 1px solid var(--rule); border-radius: 3px; padding: 0 0.35rem;
  font-size: 0.8125rem; color: var(--muted);
}
.estimated, .scenario { border-style: dashed; border-color: var(--axis); }
.key {
  display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; list-style: none; padding: 0;
  font-size: 0.875rem; max-width: none;
}
.key b { font-weight: 600; }
.swatch.student { background: var(--student); }
.swatch.teacher { background: var(--teacher); }
.swatch { display: inline-block; width: 0.75rem; height: 0.75rem; margin-right: 0.4rem; }
.template {
  white-space: pre-wrap; background: var(--card); border-radius: 6px; padding: 0.9rem 1rem;
  font: 0.8125rem/1.55 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
  overflow-wrap: anywhere; unicode-bidi: isolate;
}
mark {
  background: var(--shade); color: var(--student); border-radius: 3px; padding: 0 0.25rem;
  border-bottom: 1px solid var(--student);
}

figure { margin: 2rem 0 0; }
figcaption h3 { margin: 0 0 0.25rem; }
figcaption p { margin-bottom: 0.5rem; }
details { margin: 0.5rem 0 0.75rem; font-size: 0.875rem; }
summary { cursor: pointer; color: var(--muted); margin-bottom: 0.4rem; }
summary b { color: var(--ink); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 0 1.5rem; }
.chart { display: block; max-width: 100%; height: auto; overflow: visible; }
.narrow { display: none; }
.chart text { font-size: 12px; fill: var(--muted); }
.chart .end, .chart .note { font-size: 12.5px; }
.chart text.student { fill: var(--student); font-weight: 600; }
.chart text.plain { fill: var(--ink); font-weight: 600; }
.chart text.teacher { fill: var(--teacher); font-weight: 600; }
.grid { stroke: var(--rule); }
.axis { stroke: var(--axis); }
.zero { stroke: var(--ink); stroke-width: 1.25; }
.limit { stroke: var(--ink); stroke-dasharray: 4 3; }
.threshold { stroke: var(--student); stroke-width: 1.5; }
.certified, .band { fill: var(--shade); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.line.student { stroke: var(--student); }
.line.teacher { stroke: var(--teacher); }
.line.plain { stroke: var(--ink); }
.line.calibration { stroke: var(--axis); }
circle.student, .student-fill { fill: var(--student); }
circle.plain { fill: var(--ink); }
circle.teacher { fill: var(--teacher); }
.s0 { fill: var(--s0); background: var(--s0); }
.s1 { fill: var(--s1); background: var(--s1); }
.s2 { fill: var(--s2); background: var(--s2); }
.s3 { fill: var(--s3); background: var(--s3); }
.s4 { fill: var(--s4); background: var(--s4); }
.s5 { fill: var(--s5); background: var(--s5); }

@media screen and (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; }
  .verdict { font-size: 1.375rem; }
  .tiles { grid-template-columns: 1fr 1fr; gap: 1rem; }
  .tiles .big { font-size: 1.5rem; }
  .facts { grid-template-columns: 1fr 1fr; }
  .pair { grid-template-columns: 1fr; }
  .wide { display: none; }
  .narrow { display: block; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, .numbers { display: none; }
  .tiles { grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); gap: 1rem; }
  .tiles .big { font-size: 1.5rem; }
  .facts { grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); }
  details::details-content { content-visibility: visible; block-size: auto; }
  .scroll { overflow: visible; }
  figure, tr { break-inside: avoid; }
  h2, h3, h4, figcaption { break-after: avoid; }
}
""")
