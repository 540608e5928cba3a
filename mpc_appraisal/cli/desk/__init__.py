"""The desk: pages on 127.0.0.1 where a data owner decides on requests and a model owner compares candidates.

`mpc-appraisal desk` serves them. `app.py` makes the web application of the library Flask, an optional extra; `guard.py`
says who may see and change anything; the other files read the folders that the command names (`places.py`), and import
no web framework. A page is one file in templates/, where every value is escaped, because names, listings and requests
come from other parties. A new page needs a route in `app.py` and a line in templates/page.html.jinja.
"""
