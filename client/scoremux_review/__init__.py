"""The review desk: raters and scoring directors read, override and stop automated scores in a browser.

``data`` is the database and the record, ``work`` what raters do, ``out`` what leaves the desk, ``web`` its pages.
"""
