"""The words of a report in English and Spanish."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

__all__ = ["STATUS_WORDS", "WORDS", "Language", "reason_in"]

Language: TypeAlias = Literal["en", "es"]

_WORDS: Final = {
    "title": ("WhatsApp check", "Verificación de WhatsApp"),
    "list": ("List", "Lista"),
    "created": ("Report created", "Informe creado"),
    "rows": ("Rows", "Filas"),
    "answered": ("Answered", "Con respuesta"),
    "on_whatsapp": ("On WhatsApp", "Con WhatsApp"),
    "of_answered": ("of {n} answered", "de {n} con respuesta"),
    "business": ("Business accounts", "Cuentas de empresa"),
    "avatar": ("With a profile picture", "Con foto de perfil"),
    "of_whatsapp": ("of those on WhatsApp", "de las que tienen WhatsApp"),
    "invalid": ("No usable number", "Sin número utilizable"),
    "calls": ("Calls in this run", "Consultas de esta ejecución"),
    "cost": ("Cost", "Costo"),
    "price_each": ("{n} numbers answered, {price} each", "{n} números con respuesta, {price} cada uno"),
    "spent": ("of the calls in this run", "de las consultas de esta ejecución"),
    "in_this_run": ("{cost} in this run", "{cost} en esta ejecución"),
    "numbers": ("Distinct numbers on WhatsApp", "Números distintos con WhatsApp"),
    "simulated": (
        "Simulated: these answers come from {host}, not from AccuAuth.",
        "Simulación: estas respuestas vienen de {host}, no de AccuAuth.",
    ),
    "duration": ("Duration", "Duración"),
    "retries": (
        "{polls} polls, {retries} retries, slowed down {refusals} times",
        "{polls} reconsultas, {retries} reintentos, {refusals} pausas por límite",
    ),
    "outcomes": ("Result of every row", "Resultado de cada fila"),
    "outcome": ("Outcome", "Resultado"),
    "share": ("Share", "Porcentaje"),
    "by": ("WhatsApp share by {column}", "Porcentaje con WhatsApp por {column}"),
    "interval": ("95 % interval", "Intervalo del 95 %"),
    "interval_note": (
        "The line on each bar is the 95 % confidence interval (Wilson): if the lines of two groups"
        " overlap, the difference may be due to chance.",
        "La línea sobre cada barra es el intervalo de confianza del 95 % (Wilson): si las líneas de dos"
        " grupos se superponen, la diferencia puede deberse al azar.",
    ),
    "empty": ("(empty)", "(vacío)"),
    "others": ("{n} more groups", "{n} grupos más"),
    "age": ("Age of the status text", "Antigüedad del texto de estado"),
    "age_note": (
        "Of the accounts on WhatsApp. An old status text does not mean that the account is unused.",
        "De las cuentas con WhatsApp. Un estado antiguo no significa que la cuenta esté en desuso.",
    ),
    "days": ("up to {n} days", "hasta {n} días"),
    "years": ("up to {n} years", "hasta {n} años"),
    "year": ("up to 1 year", "hasta 1 año"),
    "older": ("older", "más antiguo"),
    "unknown": ("not stated", "sin dato"),
    "reasons": ("Why rows have no usable number", "Por qué hay filas sin número utilizable"),
    "reason": ("Reason", "Motivo"),
    "examples": ("Examples (digits hidden)", "Ejemplos (dígitos ocultos)"),
    "speed": ("Answers per second", "Respuestas por segundo"),
    "speed_note": (
        "When the answers arrived. Answers from an earlier run are shown at the time they arrived.",
        "Cuándo llegaron las respuestas. Las de una ejecución anterior aparecen a la hora en que llegaron.",
    ),
    "limit": ("limit found", "límite encontrado"),
    "run_speed": ("Calls per second", "Consultas por segundo"),
    "run_speed_note": (
        "In this run, compared with the account's rate limit as known at the time.",
        "En esta ejecución, comparadas con el límite de la cuenta conocido en cada momento.",
    ),
    "calls_per_second": ("Calls/s", "Consultas/s"),
    "sheet": ("Summary", "Resumen"),
    "all_rows": ("All rows", "Todas las filas"),
    "figure": ("Metric", "Dato"),
    "this_run": ("This run", "Esta ejecución"),
    "seconds": ("Duration in seconds", "Duración en segundos"),
    "limit_found": ("Rate limit found, calls/s", "Límite encontrado, consultas/s"),
    "not_grouped": (
        "The rows are not grouped by {column}: it contains more than {n} different values, or phone"
        " numbers or email addresses.",
        "Las filas no se agrupan por {column}: tiene más de {n} valores distintos, o teléfonos o correos.",
    ),
    "time": ("Time (Lima)", "Hora (Lima)"),
    "per_second": ("Answers/s", "Respuestas/s"),
    "table": ("Show as a table", "Ver como tabla"),
    "accounts": ("Accounts", "Cuentas"),
    "none": ("No rows.", "No hay filas."),
    "made_by": (
        "Made with accucheck. Contains no phone numbers. Each answer was true when it was bought.",
        "Hecho con accucheck. No contiene números de teléfono. Cada respuesta describe el momento en que"
        " se compró.",
    ),
}
_STATUS_WORDS: Final = {
    "yes": ("On WhatsApp", "Con WhatsApp"),
    "no": ("Not on WhatsApp", "Sin WhatsApp"),
    "INVALID_NUMBER": ("No usable number", "Sin número utilizable"),
    "UNCHECKED": ("Not checked yet", "Aún sin verificar"),
    "EXCLUDED": ("Excluded", "Excluida"),
    "PENDING": ("AccuAuth is still checking", "AccuAuth todavía está verificando"),
    "REFUSED_ALIKE": (
        "Refused like all the others; the next run checks it again",
        "Rechazado como todos los demás; se verificará en la próxima ejecución",
    ),
    "PENDING_TIMEOUT": (
        "AccuAuth was still checking when the run gave up",
        "AccuAuth seguía verificando al terminar la ejecución",
    ),
    "UNDETERMINED": ("AccuAuth could not tell", "AccuAuth no pudo determinarlo"),
    "TRANSPORT_ERROR": ("No reply arrived", "No llegó respuesta"),
    "INTERNAL_ERROR": ("AccuAuth failed", "Falla de AccuAuth"),
    "INVALID_ARGUMENT": ("AccuAuth refused the number", "AccuAuth rechazó el número"),
    "RATE_LIMIT_EXCEEDED": ("Rate-limited for too long", "Limitado por demasiado tiempo"),
    "PROTOCOL_ERROR": (
        "AccuAuth's reply could not be understood",
        "No se pudo interpretar la respuesta de AccuAuth",
    ),
}


def _by_language(pairs: dict[str, tuple[str, str]]) -> dict[Language, dict[str, str]]:
    return {
        "en": {key: english for key, (english, _) in pairs.items()},
        "es": {key: spanish for key, (_, spanish) in pairs.items()},
    }


WORDS: Final = _by_language(_WORDS)
STATUS_WORDS: Final = _by_language(_STATUS_WORDS)
"""By status, for rows without an answer. A status that is not listed is shown as it is."""

_REASONS_ES: Final = [
    (re.compile(english), spanish)
    for english, spanish in (
        (r"contains several numbers", "tiene varios números"),
        (r"contains other digits.*", "tiene otros dígitos además del número"),
        (r"is a landline, and only.*", "es un teléfono fijo y solo se piden celulares"),
        (r"has (\d+) characters.*", r"tiene \1 caracteres; no es un teléfono"),
        (r"contains no number|The cell is empty", "no tiene número"),
        (
            r"was rounded by a spreadsheet.*",
            "fue redondeado por una hoja de cálculo y perdió dígitos: exporte la columna como texto",
        ),
        (r"is an email address.*", "es un correo o un nombre de usuario"),
        (r"is a link.*", "es un enlace sin número de teléfono"),
        (r"is labeled.*", "está rotulado como otro dato, no como teléfono"),
        (r"contains letters or symbols.*", "tiene letras o signos que no van en un teléfono"),
        (r"has (?:.* )?between its digits", "tiene una palabra entre los dígitos"),
        (r"is a date.*", "es una fecha, no un teléfono"),
        (r"is text.*", "es texto, no un teléfono"),
        (r"contains a prefix.*", "tiene un prefijo, pero ningún número"),
        (
            r"is not a Peruvian landline: area code (\d+).*",
            r"no es un fijo del Perú: ese número no existe con el código \1",
        ),
        (r"looks like a landline without.*", "parece un fijo sin código de ciudad (01 para Lima)"),
        (
            r"is too short: it has (\d+) digits.*",
            r"es muy corto: tiene \1 dígitos; un celular peruano tiene 9 (¿error de tipeo?)",
        ),
        (
            r"is too long: it has (\d+) digits.*",
            r"es muy largo: tiene \1 dígitos; un celular peruano tiene 9 (¿error de tipeo?)",
        ),
        (
            r"has the area code (\d+) before a mobile.*",
            r"tiene el código de ciudad \1 antes de un celular, que no lleva",
        ),
        (r"(?:looks like|is) a number from another country (\([^)]*\)).*", r"es un número de otro país \1"),
        (r"has a country code that is not Peru's.*", "tiene un código de país que no es el del Perú (+51)"),
        (
            r"has 9 digits but does not start with 9.*",
            "tiene 9 dígitos, pero no empieza con 9 como los celulares",
        ),
        (
            r"The cell contains the formula.*",
            "tiene una fórmula sin valor guardado: abra el archivo en Excel, guárdelo y repita",
        ),
        (r"The cell contains the error (.*)", r"tiene el error \1"),
    )
]


_SEVERAL: Final = re.compile(r"contains more than one number.*")
_CELL: Final[dict[Language, str]] = {"en": "The cell", "es": "El dato"}
"""What the reasons speak of."""


def reason_in(language: Language, reason: str) -> str:
    """Return why a row has no usable number, in the report's language; unknown reasons stay as they are."""
    reason = _SEVERAL.sub("contains several numbers", reason)  # what to do about it is nothing for a reader
    if language == "es":
        for english, spanish in _REASONS_ES:
            if match := english.fullmatch(reason):
                reason = match.expand(spanish)
                break
    return f"{_CELL[language]} {reason}" if reason[:1].islower() else reason
