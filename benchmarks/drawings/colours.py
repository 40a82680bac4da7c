"""Colours that stay apart for colour-blind readers (Okabe and Ito), in the order in which they are given out."""

from __future__ import annotations

BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
GREY = "#999999"
