"""The judge: any logged row computed again in float64, with the same bits on every machine."""
