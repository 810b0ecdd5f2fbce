"""People, companies and addresses for generated documents, written as their countries write them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any

COUNTRIES = {
    "de_DE": ("Germany", "Deutschland"),
    "de_AT": ("Austria", "Österreich"),
    "de_CH": ("Switzerland", "Schweiz"),
    "fr_FR": ("France", "France"),
    "en_GB": ("United Kingdom", "United Kingdom"),
    "en_US": ("United States", "USA"),
    "it_IT": ("Italy", "Italia"),
    "es_ES": ("Spain", "España"),
    "nl_NL": ("Netherlands", "Nederland"),
    "pl_PL": ("Poland", "Polska"),
    "sv_SE": ("Sweden", "Sverige"),
    "da_DK": ("Denmark", "Danmark"),
    "pt_PT": ("Portugal", "Portugal"),
    "cs_CZ": ("Czech Republic", "Česká republika"),
}
"""Faker's locales that are used: the country's name in English and at home."""


@dataclass(frozen=True)
class Party:
    """Somebody with an address. ``state`` is written in the United States alone."""

    name: str
    company: str
    street: str
    postcode: str
    city: str
    state: str
    country: str
    locale: str

    def lines(self, country: bool = True) -> list[str]:
        """The address below the name, as the country writes it."""
        if self.locale == "en_US":
            place = [f"{self.city}, {self.state} {self.postcode}"]
        elif self.locale == "en_GB":
            place = [self.city, self.postcode]
        else:
            place = [f"{self.postcode} {self.city}"]
        return [self.street, *place, *([self.country] if country else [])]

    def truth(self, country: bool = True) -> dict[str, str]:
        """What there is to be read, without what is empty."""
        known = {
            "name": self.name,
            "company": self.company,
            "street": self.street,
            "postcode": self.postcode,
            "city": self.city,
            "state": self.state,
            "country": self.country if country else "",
        }
        return {key: value for key, value in known.items() if value}


def party(rng: random.Random, locale: str, company: float = 0.4) -> Party:
    """A person, with a company in a share of the cases."""
    fake = _faker(locale)
    fake.seed_instance(rng.getrandbits(64))
    street = " ".join(str(fake.street_address()).split())
    if locale == "it_IT":  # its city alone comes from a set, whose order is another in every process
        postcode, city = str(fake.postcode_city_province()).rpartition(" (")[0].split(", ", 1)
    else:
        postcode, city = str(fake.postcode()), str(fake.city())
    return Party(
        name=str(fake.name()),
        company=str(fake.company()) if rng.random() < company else "",
        street=street,
        postcode=postcode,
        city=city,
        state=str(fake.state_abbr()) if locale == "en_US" else "",
        country=rng.choice(COUNTRIES[locale]),
        locale=locale,
    )


def company(rng: random.Random, locale: str) -> str:
    """A company's name."""
    fake = _faker(locale)
    fake.seed_instance(rng.getrandbits(64))
    return str(fake.company())


@cache
def _faker(locale: str) -> Any:
    from faker import Faker

    return Faker(locale)
