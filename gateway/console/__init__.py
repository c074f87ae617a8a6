"""The console: the board, and the pages on which people act, for operations and compliance. NiceGUI, no build step.

To add a page:

1. Write `pages/<noun>.py` with one `PAGE = Page("/things/{thing}", "things_title", May.BOARD, show)` (`frame.Page`) and
   `async def show(view: View) -> None` that builds it. `view.asked["thing"]` holds what the address says.
2. Add it to the list `PAGES` in `pages/__init__.py`; `menu=True` gives it a place in the menu.
3. Put its words into `words/zh/<noun>.toml` and `words/en/<noun>.toml`, the same keys in both; `view.t["scope"]` and
   `view.t("stale", n=3)` say them, `view.time(...)` says a time in the reader's zone, `figures` says numbers.
4. Data come from functions of `records` and `ledger` on `view.desk.pool` and `view.desk.reading`, never from a query of
   this room. What is read again and again goes through `view.repeat(seconds, refresh)`, which also says when they
   stand still. `show` may raise what PostgreSQL raises: the page then says that it is away.
5. Before anything of a person is shown: `await view.look(subject, "messages", ...)`. It writes the ledger's ACCESS
   event and raises `Unrecorded` when it cannot: then nothing is shown. Numbers and texts are never in an address, a
   title or a log: search through a button (`view.doing(May.PEOPLE, search)`), name a person by subject.
6. Whatever changes something is a function behind `view.doing(May.MOVE, function)`: it reads the session and the role
   anew, takes the act, and says what came of it. `view.session.name` is who did it. Hiding a button is never enough.

7. `asking.py` has dialogs with a reason, days, and a person by number; `telling.py` says statuses and scopes. What is
   fetched or sent as a file is a request of its own (`files.py`): `pieces.sent_form` posts to it.

The door (`door.py`) stands before all of it; `signing.py` lets people in; `live.py` reads what everybody watches once
for all of them. A crash loses no act: each is a statement of `records` or an event of the ledger, or it did not happen.
"""
