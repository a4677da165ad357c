"""Texts that real traffic holds and nobody thinks of."""

ODD_TEXTS: tuple[str, ...] = (
    "",
    " ",
    "\n\t",
    "\0",
    "a\0b",
    "🎉",
    "👩‍👩‍👧 e\u0301 ﬁ İstanbul ΟΔΟΣ",
    "我的卡在哪里",
    "أين بطاقتي",
    "\u200b\ufeff",
    "?!…",
    "x" * 100_000,
    "card " * 20_000,
)
