"""The review desk: raters and scoring directors read, override and stop automated scores in a browser.

``database`` is the only place with SQL, ``reading`` what raters do, ``exports`` and ``figures`` what leaves the desk,
``pages`` its pages.
"""
