"""A shop's table (city, age, income, bought, blanks), its recipe, and its features made by hand in numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

CITIES = ("Berlin", "Paris", "Rome")
RECIPE = (Path(__file__).parent / "recipe.yaml").read_text(encoding="utf-8")
COLUMNS = ("city=Berlin", "city=Paris", "city=Rome", "city=other", "age", "age is blank", "income")


def shop(n: int, seed: int, cities=(*CITIES, "Oslo", None)) -> pd.DataFrame:
    """n rows in which who is older and earns more buys more often; a tenth of ages and incomes are blank."""
    r = np.random.default_rng(seed)
    age = np.round(np.clip(r.normal(42, 12, n), 18, 90))
    income = np.round(r.normal(30000, 9000, n), 2)
    city = r.choice(np.array(cities, dtype=object), n)
    bought = (age - 42) / 12 + (income - 30000) / 9000 + (city == "Paris") + r.normal(0, 0.7, n) > 0
    age[r.random(n) < 0.1] = np.nan
    income[r.random(n) < 0.1] = np.nan
    return pd.DataFrame(
        {
            "city": city,
            "age": pd.array([None if np.isnan(one) else int(one) for one in age], dtype="Int64"),
            "income": income,
            "bought": np.where(bought, "yes", "no"),
        }
    )


def by_hand(frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The features and labels that RECIPE states, without the code under test."""
    city = frame["city"].tolist()
    known = [[float(one == level) for level in CITIES] for one in city]
    other = [float(one is not None and one == one and one not in CITIES) for one in city]
    age = np.array([np.nan if one is pd.NA else float(one) for one in frame["age"]])
    blank, income = np.isnan(age), frame["income"].to_numpy(float)
    years = np.round((np.where(blank, 41.0, age) - 40.0) / 12.5 * 1024) / 1024
    money = (np.where(np.isnan(income), 25000.0, income) - 30000.0) / 10000.0
    x = np.column_stack([known, other, years, blank.astype(float), money])
    return x, (frame["bought"] == "yes").to_numpy().astype(int)


def with_customers(n: int, seed: int, first: int) -> pd.DataFrame:
    """A shop of known and other cities, with a column of customers, which are texts such as 007; one is blank."""
    frame = shop(n, seed, (*CITIES, "Oslo", "Bergen", None))
    names = [f"{number:03d}" for number in range(first, first + n)]
    return frame.assign(customer=["NA", "", *names[2:]])


# The recipe for a table with customers, who are no feature of it.
CUSTOMERS = RECIPE.replace("target:", "  - {name: customer, type: string, feature: {leave_out: true}}\ntarget:")


def write_recipe(path: Path, text: str = RECIPE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def write_shop(path: Path, frame: pd.DataFrame, order=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame[list(order or frame.columns)].to_csv(path, index=False)
    return path
