"""The base of all schemas, and numbers rounded to what they mean."""

from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen model, which can be read from an object's attributes."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


Tenths: TypeAlias = Annotated[float, AfterValidator(lambda value: round(value, 1))]
Hundredths: TypeAlias = Annotated[float, AfterValidator(lambda value: round(value, 2))]
Thousandths: TypeAlias = Annotated[float, AfterValidator(lambda value: round(value, 3))]
"""Floats rounded to one, two and three decimals; `Share` to four."""

Share: TypeAlias = Annotated[float, AfterValidator(lambda value: round(value, 4))]
