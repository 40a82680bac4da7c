"""The review desk: raters and scoring directors read, override and stop automated scores in a browser.

``database`` and ``reading`` are the only places with SQL; ``reading`` is what raters do, ``exports`` what leaves the
desk, ``pages`` its pages, ``api`` the JSON API.
"""
