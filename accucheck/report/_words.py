"""The words of a report in English and Spanish."""

from __future__ import annotations

import re
from typing import Final, Literal, TypeAlias

__all__ = ["STATUS_WORDS", "WORDS", "Language", "reason_in"]

Language: TypeAlias = Literal["en", "es"]

WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "title": "WhatsApp check",
        "list": "List",
        "created": "Report created",
        "rows": "Rows",
        "answered": "Answered",
        "on_whatsapp": "On WhatsApp",
        "of_answered": "of {n} answered",
        "business": "Business accounts",
        "avatar": "With a profile picture",
        "of_whatsapp": "of those on WhatsApp",
        "invalid": "No usable number",
        "calls": "Calls in this run",
        "cost": "Cost",
        "price_each": "{n} numbers answered, {price} each",
        "spent": "of the calls in this run",
        "in_this_run": "{cost} in this run",
        "numbers": "Distinct numbers on WhatsApp",
        "simulated": "Simulated: these answers come from {host}, not from AccuAuth.",
        "duration": "Duration",
        "retries": "{polls} polls, {retries} retries, slowed down {refusals} times",
        "outcomes": "Result of every row",
        "outcome": "Outcome",
        "share": "Share",
        "by": "WhatsApp share by {column}",
        "interval": "95 % interval",
        "interval_note": "The line on each bar is the 95 % confidence interval (Wilson): if the lines of two groups"
        " overlap, the difference may be due to chance.",
        "empty": "(empty)",
        "others": "{n} more groups",
        "age": "Age of the status text",
        "age_note": "Of the accounts on WhatsApp. An old status text does not mean that the account is unused.",
        "days": "up to {n} days",
        "years": "up to {n} years",
        "year": "up to 1 year",
        "older": "older",
        "unknown": "not stated",
        "reasons": "Why rows have no usable number",
        "reason": "Reason",
        "examples": "Examples (digits hidden)",
        "speed": "Answers per second",
        "speed_note": "When the answers arrived. Answers from an earlier run are shown at the time they arrived.",
        "limit": "limit found",
        "run_speed": "Calls per second",
        "run_speed_note": "In this run, compared with the account's rate limit as known at the time.",
        "calls_per_second": "Calls/s",
        "sheet": "Summary",
        "all_rows": "All rows",
        "figure": "Metric",
        "this_run": "This run",
        "seconds": "Duration in seconds",
        "limit_found": "Rate limit found, calls/s",
        "not_grouped": "The rows are not grouped by {column}: it contains more than {n} different values, or phone"
        " numbers or email addresses.",
        "time": "Time (Lima)",
        "per_second": "Answers/s",
        "table": "Show as a table",
        "accounts": "Accounts",
        "none": "No rows.",
        "made_by": "Made with accucheck. Contains no phone numbers. Each answer was true when it was bought.",
    },
    "es": {
        "title": "Verificación de WhatsApp",
        "list": "Lista",
        "created": "Informe creado",
        "rows": "Filas",
        "answered": "Con respuesta",
        "on_whatsapp": "Con WhatsApp",
        "of_answered": "de {n} con respuesta",
        "business": "Cuentas de empresa",
        "avatar": "Con foto de perfil",
        "of_whatsapp": "de las que tienen WhatsApp",
        "invalid": "Sin número utilizable",
        "calls": "Consultas de esta ejecución",
        "cost": "Costo",
        "price_each": "{n} números con respuesta, {price} cada uno",
        "spent": "de las consultas de esta ejecución",
        "in_this_run": "{cost} en esta ejecución",
        "numbers": "Números distintos con WhatsApp",
        "simulated": "Simulación: estas respuestas vienen de {host}, no de AccuAuth.",
        "duration": "Duración",
        "retries": "{polls} reconsultas, {retries} reintentos, {refusals} pausas por límite",
        "outcomes": "Resultado de cada fila",
        "outcome": "Resultado",
        "share": "Porcentaje",
        "by": "Porcentaje con WhatsApp por {column}",
        "interval": "Intervalo del 95 %",
        "interval_note": "La línea sobre cada barra es el intervalo de confianza del 95 % (Wilson): si las líneas de"
        " dos grupos se superponen, la diferencia puede deberse al azar.",
        "empty": "(vacío)",
        "others": "{n} grupos más",
        "age": "Antigüedad del texto de estado",
        "age_note": "De las cuentas con WhatsApp. Un estado antiguo no significa que la cuenta esté en desuso.",
        "days": "hasta {n} días",
        "years": "hasta {n} años",
        "year": "hasta 1 año",
        "older": "más antiguo",
        "unknown": "sin dato",
        "reasons": "Por qué hay filas sin número utilizable",
        "reason": "Motivo",
        "examples": "Ejemplos (dígitos ocultos)",
        "speed": "Respuestas por segundo",
        "speed_note": "Cuándo llegaron las respuestas. Las de una ejecución anterior aparecen a la hora en que"
        " llegaron.",
        "limit": "límite encontrado",
        "run_speed": "Consultas por segundo",
        "run_speed_note": "En esta ejecución, comparadas con el límite de la cuenta conocido en cada momento.",
        "calls_per_second": "Consultas/s",
        "sheet": "Resumen",
        "all_rows": "Todas las filas",
        "figure": "Dato",
        "this_run": "Esta ejecución",
        "seconds": "Duración en segundos",
        "limit_found": "Límite encontrado, consultas/s",
        "not_grouped": "Las filas no se agrupan por {column}: tiene más de {n} valores distintos, o teléfonos o"
        " correos.",
        "time": "Hora (Lima)",
        "per_second": "Respuestas/s",
        "table": "Ver como tabla",
        "accounts": "Cuentas",
        "none": "No hay filas.",
        "made_by": "Hecho con accucheck. No contiene números de teléfono. Cada respuesta describe el momento en que se"
        " compró.",
    },
}

STATUS_WORDS: Final[dict[Language, dict[str, str]]] = {
    "en": {
        "yes": "On WhatsApp",
        "no": "Not on WhatsApp",
        "INVALID_NUMBER": "No usable number",
        "UNCHECKED": "Not checked yet",
        "EXCLUDED": "Excluded",
        "PENDING": "AccuAuth is still checking",
        "REFUSED_ALIKE": "Refused like all the others; the next run checks it again",
        "PENDING_TIMEOUT": "AccuAuth was still checking when the run gave up",
        "UNDETERMINED": "AccuAuth could not tell",
        "TRANSPORT_ERROR": "No reply arrived",
        "INTERNAL_ERROR": "AccuAuth failed",
        "INVALID_ARGUMENT": "AccuAuth refused the number",
        "RATE_LIMIT_EXCEEDED": "Rate-limited for too long",
        "PROTOCOL_ERROR": "AccuAuth's reply could not be understood",
    },
    "es": {
        "yes": "Con WhatsApp",
        "no": "Sin WhatsApp",
        "INVALID_NUMBER": "Sin número utilizable",
        "UNCHECKED": "Aún sin verificar",
        "EXCLUDED": "Excluida",
        "PENDING": "AccuAuth todavía está verificando",
        "REFUSED_ALIKE": "Rechazado como todos los demás; se verificará en la próxima ejecución",
        "PENDING_TIMEOUT": "AccuAuth seguía verificando al terminar la ejecución",
        "UNDETERMINED": "AccuAuth no pudo determinarlo",
        "TRANSPORT_ERROR": "No llegó respuesta",
        "INTERNAL_ERROR": "Falla de AccuAuth",
        "INVALID_ARGUMENT": "AccuAuth rechazó el número",
        "RATE_LIMIT_EXCEEDED": "Limitado por demasiado tiempo",
        "PROTOCOL_ERROR": "No se pudo interpretar la respuesta de AccuAuth",
    },
}
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
