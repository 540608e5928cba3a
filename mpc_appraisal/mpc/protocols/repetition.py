"""Prediction of requests to the dealer: both owners see alike that a program repeats, and ask ahead of it.

    requests ... A B C D   A B C D        the last requests are those that stood P places before, so that
             |<-- P -->|           ^      the next one is taken to be the one P places before: A

In go the requests of an owner's program one by one, and how much each has drawn; out comes for each whether it was
asked ahead, and what to ask now. Nothing here sends a message or sees a share. Both owners run the same program, so
that both predict alike, and the dealer knows nothing of it.

A request names masks by numbers. The program's own numbers are translated into numbers of the wire, of which each mask
that is asked for ahead gets its own. A request repeats an earlier one if all else is equal and each of its masks is the
same mask, or was made by the request that stands P places after the one that made the earlier mask. The form of a
request is the request with each mask replaced by the form of the request that made it. What a request draws, and what
the dealer shares for it, depends on its form alone, and is recorded when the form first occurs.

A prediction that fails wastes what was asked ahead. Masks are dropped only once the program itself drops them, so that
a failed prediction changes no later request. The requests that are ahead are so many that at any time

    wasted <= LARGEST_SHARE * used + ALLOWED

holds for the requests of a session and for their elements of 8 bytes alike, whatever the program does, unless a script
of a dry run is followed: then at most MOST_AHEAD requests more are wasted. Within this
bound the number that is ahead doubles whenever so many predictions were right, and halves when one fails.

The numbers below may change at all parties together.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

SUFFIXES = (32, 8)  # So many last requests have to repeat; the longer repetition goes first.
FEWEST_AHEAD, MOST_AHEAD = 4, 512  # the smallest and the largest number of requests ahead
LARGEST_SHARE = 1 / 8
ALLOWED_REQUESTS, ALLOWED_ELEMENTS = 64, 1 << 19
HISTORY = 1 << 16  # After so many requests what has been seen is forgotten.
FIRST_WIRE = 1 << 32  # Numbers of the wire begin above the program's own, so that neither is taken for the other.
DROPS = {"mask": "free", "rows": "free"}  # what drops a mask that a request has made; else it is `forget`
MARK = json.dumps("\0")
MASK = object()  # stands for a mask among a form's arguments
ELEMENT_BYTES = 8


class Key(int):
    """A number by which a program knows a mask, as an argument of a request. Other arguments are ordinary numbers."""


class Consumption(NamedTuple):
    """What an owner takes for one request: bytes of its streams mask and triple and of shares, and its messages.

    `corrections` has the shape and the type of each message of the dealer; it is empty at the data owner.
    """

    mask: int = 0
    triple: int = 0
    share: int = 0
    corrections: tuple[Any, ...] = ()

    @property
    def elements(self) -> float:
        """Return the number of elements, which is the same at both owners."""
        return (self.triple + self.share) / ELEMENT_BYTES


class Slot(NamedTuple):
    """A mask that a request names: its number on the wire, the place of the request that made it, and its form."""

    wire: int
    made: int
    form: tuple[int, int]  # the form of the request that made it, and which of this request's masks it is


class Entry(NamedTuple):
    """A request of the program: the number of its form, and the masks that it names, in order."""

    form: int
    slots: tuple[Slot, ...]


class Form(NamedTuple):
    """What requests of one form have in common: the name, the JSON between their masks, and the other arguments."""

    name: str
    pieces: tuple[str, ...]
    arguments: list[Any]


class Step(NamedTuple):
    """What to do about a request that the program has made.

    Attributes:
        before: how many requests, with this one, had been asked ahead; 0 if this one had to be asked now.
        wasted: what was taken for requests that had been asked ahead and are not made, in order.
        texts: the JSON of the requests to make now, in order.
        urgent: whether they contain requests ahead, which should be made at once.
    """

    before: int
    wasted: list[Consumption]
    texts: list[str]
    urgent: bool


class Repetition:
    """The requests of one program so far, and those that were made ahead.

    Args:
        predicts: whether to ask ahead; a dry run does not.

    Attributes:
        used_requests, used_elements: what the program itself has taken.
        wasted_requests, wasted_elements: what was asked for ahead and thrown away.
    """

    def __init__(self, predicts: bool = True):
        self.predicts = predicts
        self.used_requests = self.wasted_requests = 0
        self.used_elements = self.wasted_elements = 0.0
        self._numbers: dict[Any, int] = {}  # the number of each form
        self._forms: list[Form] = []
        self._taken: dict[int, Consumption] = {}  # by form
        self._slots: dict[int, Slot] = {}  # by the program's own numbers
        self._alive: set[int] = set()  # masks that the dealer has, by the wire's numbers
        self._children: dict[int, list[int]] = {}  # the masks that were made of a mask
        self._wire = FIRST_WIRE
        self._entries: list[Entry] = []
        self._sequence: list[int] = []  # their forms
        self._first = 0  # the place of the first entry that is remembered
        self._suffixes: dict[tuple[int, int], int] = {}  # the last place of each suffix, by its length and hash
        self._ahead: deque[Entry] = deque()
        self._elements = 0.0  # of what is ahead
        self._period, self._window, self._hits = 0, FEWEST_AHEAD, 0
        self._filled = 0  # how many requests were ahead when the last ones were asked for
        self._until: int | None = None  # where the script ends that is being followed

    @property
    def count(self) -> int:
        """Return how many requests the program has made."""
        return self._first + len(self._entries)

    @property
    def ahead(self) -> int:
        """Return how many requests have been asked ahead and were not made yet."""
        return len(self._ahead)

    # -- what the program does -------------------------------------------------------------------------------------
    def took(self, taken: Consumption) -> None:
        """Record what was taken for the last request, once it has been carried out."""
        self._taken.setdefault(self._entries[-1].form, taken)
        self.used_requests += 1
        self.used_elements += taken.elements

    def made(self, name: str, arguments: Sequence[Any]) -> Step:
        """Follow one request of the program that is no drop; return what to do."""
        place, before = self.count, len(self._ahead)
        keys = [a for a in arguments if type(a) is Key]
        if self._ahead and self._is_next(name, arguments, keys):
            return self._hit(keys, before)
        text = json.dumps([name, *("\0" if type(a) is Key else a for a in arguments)])
        known = [self._slots.get(key) for key in keys]
        form = self._form(name, text, known)
        wasted, texts = self._thrown_away() if self._ahead else ([], [])
        fresh = iter([(form, k) for k in range(len(keys))])
        entry = Entry(form, tuple(s or Slot(self._new_wire(), place, next(fresh)) for s in known))
        texts.append(self._text(entry))
        self._enter(entry, place)
        self._slots.update(zip(keys, entry.slots, strict=True))
        self._remember(entry)
        more = self._more() if self.predicts else []
        return Step(len(wasted), wasted, [*texts, *more], bool(more))

    def _is_next(self, name: str, arguments: Sequence[Any], keys: Sequence[Key]) -> bool:
        """Return whether the request is the first one that was asked ahead."""
        entry = self._ahead[0]
        form = self._forms[entry.form]
        if name != form.name or [MASK if type(a) is Key else a for a in arguments] != form.arguments:
            return False
        place = self.count
        for key, slot in zip(keys, entry.slots, strict=True):
            known = self._slots.get(key)
            if slot.made != place if known is None else slot.wire != known.wire:
                return False
        return True

    def _hit(self, keys: Sequence[Key], before: int) -> Step:
        """Follow a request of the program that was asked ahead."""
        entry = self._ahead.popleft()
        self._elements -= self._taken[entry.form].elements
        self._hits += 1
        if keys:
            self._slots.update(zip(keys, entry.slots, strict=True))
        self._remember(entry)
        more = self._more()
        return Step(before, [], more, bool(more))

    def dropped(self, name: str, arguments: Sequence[Any]) -> str:
        """Follow a request by which the program drops masks; return its JSON."""

        def wire(key: Any) -> Any:
            if isinstance(key, (list, tuple)):
                return [wire(each) for each in key]
            slot = self._slots.pop(key)
            self._bury(slot.wire)
            return slot.wire

        return json.dumps([name, *(wire(a) for a in arguments)])

    def end(self) -> list[Consumption]:
        """Return what is to be thrown away of what is ahead, at the end of the program."""
        wasted, _ = self._thrown_away()
        return wasted

    def follow(self) -> list[str]:
        """Take all requests so far, which were those of a dry run, for a prediction; return what to ask now."""
        self._slots.clear()
        self._alive.clear()
        self._children.clear()
        self.used_requests, self.used_elements = 0, 0.0
        self.predicts, self._period, self._window = True, self.count, MOST_AHEAD
        self._until = 2 * self.count
        return self._extended()

    # -- forms and masks -------------------------------------------------------------------------------------------
    def _form(self, name: str, text: str, known: Sequence[Slot | None]) -> int:
        form = text, tuple(None if slot is None else slot.form for slot in known)
        number = self._numbers.setdefault(form, len(self._forms))
        if number == len(self._forms):
            arguments = [MASK if a == "\0" else a for a in json.loads(text)[1:]]
            self._forms.append(Form(name, tuple(text.split(MARK)), arguments))
        return number

    def _text(self, entry: Entry) -> str:
        first, *rest = self._forms[entry.form].pieces
        return first + "".join(f"{slot.wire}{piece}" for slot, piece in zip(entry.slots, rest, strict=True))

    def _new_wire(self) -> int:
        self._wire += 1
        return self._wire

    def _enter(self, entry: Entry, place: int) -> None:
        """Note the masks that the request at `place` makes."""
        for slot in entry.slots:
            if slot.made == place:
                self._alive.add(slot.wire)
                for other in entry.slots:
                    if other.made != place:
                        self._children.setdefault(other.wire, []).append(slot.wire)

    def _bury(self, wire: int) -> None:
        """Note that a mask, and maybe those that were made of it, can be named no more by what is predicted."""
        self._alive.discard(wire)
        for child in self._children.pop(wire, []):
            self._bury(child)

    # -- what is ahead ---------------------------------------------------------------------------------------------
    def _thrown_away(self) -> tuple[list[Consumption], list[str]]:
        """Throw away what is ahead; return what was taken for it, and the requests that drop its masks."""
        wasted, drops = [], []
        for place, entry in enumerate(self._ahead, self.count):
            taken = self._taken[entry.form]
            wasted.append(taken)
            self.wasted_requests += 1
            self.wasted_elements += taken.elements
            for slot in entry.slots:
                if slot.made == place:
                    drop = DROPS.get(self._forms[entry.form].name, "forget")
                    drops.append(json.dumps([drop, slot.wire if drop == "free" else [slot.wire]]))
                    self._bury(slot.wire)
        self._ahead.clear()
        self._elements, self._hits, self._until = 0.0, 0, None
        self._window = max(FEWEST_AHEAD, self._window // 2)
        return wasted, drops

    def _remember(self, entry: Entry) -> None:
        if len(self._entries) >= HISTORY:
            self._first = self.count
            self._entries.clear()
            self._sequence.clear()
            self._suffixes.clear()
        self._entries.append(entry)
        self._sequence.append(entry.form)

    def _more(self) -> list[str]:
        """Return the requests to make ahead now, after the last request was remembered."""
        last, found = self.count - 1, None
        for length in SUFFIXES:
            if len(self._entries) >= length:
                suffix = length, hash(tuple(self._sequence[-length:]))
                if not self._ahead and found is None and self._until != self.count:  # Scripts end with the program.
                    earlier = self._suffixes.get(suffix)
                    if earlier is not None and self._alike(earlier, last, length):
                        found = earlier, length
                self._suffixes[suffix] = last
        if found is not None:
            self._period, self._hits, self._until = last - found[0], 0, None
            if found[1] != SUFFIXES[0]:  # It may be a short loop, of which nobody knows when it ends.
                self._window = FEWEST_AHEAD
        elif not self._ahead or len(self._ahead) > self._filled // 2:
            return []
        if self._hits >= self._window:
            self._window, self._hits = min(2 * self._window, MOST_AHEAD), 0
        return self._extended()

    def _alike(self, one: int, other: int, length: int) -> bool:
        """Return whether the `length` requests up to the place `one` repeat in those up to the later place `other`."""
        period = other - one
        if one - length + 1 < self._first:
            return False
        for place in range(one, one - length, -1):
            a, b = self._entries[place - self._first], self._entries[place + period - self._first]
            if a.form != b.form:
                return False
            for s, t in zip(a.slots, b.slots, strict=True):
                if (t.made != s.made + period) if s.made > place - period else (t.wire != s.wire):
                    return False
        return True

    def _extended(self) -> list[str]:
        """Predict further requests while the window and the bound on what is wasted allow it; return their JSON."""
        texts = []
        while len(self._ahead) < self._window:
            place = self.count + len(self._ahead)
            entry = self._predicted(place)
            if entry is None:
                break
            self._ahead.append(entry)
            self._elements += self._taken[entry.form].elements
            self._enter(entry, place)
            texts.append(self._text(entry))
        self._filled = len(self._ahead)
        return texts

    def _entry(self, place: int) -> Entry | None:
        if place < self._first:
            return None
        return self._entries[place - self._first] if place < self.count else self._ahead[place - self.count]

    def _predicted(self, place: int) -> Entry | None:
        """Return the request that is predicted for `place`, or None where none may be made."""
        source, period = place - self._period, self._period
        entry = self._entry(source)
        if entry is None or entry.form not in self._taken or not self._affordable(self._taken[entry.form], place):
            return None
        slots = []
        for slot in entry.slots:
            if slot.made == source:
                slots.append(Slot(self._new_wire(), place, slot.form))
                continue
            if slot.made > source - period:
                made = self._entry(slot.made + period)
                found = None if made is None else [s for s in made.slots if s[1:] == (slot.made + period, slot.form)]
                slot = found[0] if found else None
            if slot is None or slot.wire not in self._alive:
                return None
            slots.append(slot)
        return Entry(entry.form, tuple(slots))

    def _affordable(self, taken: Consumption, place: int) -> bool:
        """Return whether the bound on what is wasted still holds if all that is ahead, and this, is thrown away."""
        if self._until is not None:
            return place < self._until
        requests = self.wasted_requests + len(self._ahead) + 1
        elements = self.wasted_elements + self._elements + taken.elements
        return (
            requests <= LARGEST_SHARE * self.used_requests + ALLOWED_REQUESTS
            and elements <= LARGEST_SHARE * self.used_elements + ALLOWED_ELEMENTS
        )
