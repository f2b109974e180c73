"""Names that traces may bring, made to break out of whatever shows them."""

from __future__ import annotations

HOSTILE = "</script><script>alert(1)</script>"
HOSTILE_NAMES = (
    HOSTILE,
    '" onmouseover="alert(2)" \'><img src=x onerror=alert(3)>',
    "<!--<script>&lt;b&gt;&amp;$data ${data} %{customdata}",
    "nul\x00 escape\x1b[2J bell\x07",
    "\u2028line\u2029paragraph\nnewline",
    "\u202egnp.exe\u202c שלום",
    "lone \ud800 surrogate",
    "<a href='javascript:alert(4)'>click</a><br><b>bold</b>",
    "x" * 5000,
)
