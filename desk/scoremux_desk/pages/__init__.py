"""The pages: plain HTML on Starlette, with one small script of our own."""
