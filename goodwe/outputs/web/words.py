"""The words of the page in six languages, and numbers, times and dates as they are written in each."""

from collections.abc import Sequence
from datetime import date, datetime, tzinfo

from ...protocol.texts import ENGLISH, LANGUAGES

_WORDS: dict[str, tuple[str, str, str, str, str]] = {
    "now": ("nu", "jetzt", "maintenant", "ahora", "agora"),
    "day": ("dag", "Tag", "jour", "día", "dia"),
    "month": ("maand", "Monat", "mois", "mes", "mês"),
    "year": ("jaar", "Jahr", "année", "año", "ano"),
    "all years": ("alle jaren", "alle Jahre", "toutes les années", "todos los años", "todos os anos"),
    "events": ("gebeurtenissen", "Ereignisse", "événements", "eventos", "eventos"),
    "health": ("gezondheid", "Zustand", "état du système", "estado del sistema", "estado do sistema"),
    "power": ("vermogen", "Leistung", "puissance", "potencia", "potência"),
    "today": ("vandaag", "heute", "aujourd'hui", "hoy", "hoje"),
    "total": ("totaal", "gesamt", "total", "total", "total"),
    "temperature": ("temperatuur", "Temperatur", "température", "temperatura", "temperatura"),
    "work mode": (
        "bedrijfstoestand",
        "Betriebsart",
        "mode de fonctionnement",
        "modo de trabajo",
        "modo de trabalho",
    ),
    "strings": ("strings", "Strings", "chaînes", "cadenas", "strings"),
    "phases": ("fasen", "Phasen", "phases", "fases", "fases"),
    "grid voltage": ("netspanning", "Netzspannung", "tension du réseau", "tensión de red", "tensão da rede"),
    "PV voltage": ("PV-spanning", "PV-Spannung", "tension PV", "tensión FV", "tensão FV"),
    "frequency": ("frequentie", "Frequenz", "fréquence", "frecuencia", "frequência"),
    "inverter": ("omvormer", "Wechselrichter", "onduleur", "inversor", "inversor"),
    "inverters": ("omvormers", "Wechselrichter", "onduleurs", "inversores", "inversores"),
    "all inverters": (
        "alle omvormers",
        "alle Wechselrichter",
        "tous les onduleurs",
        "todos los inversores",
        "todos os inversores",
    ),
    "last reading": (
        "laatste meting",
        "letzte Messung",
        "dernière mesure",
        "última lectura",
        "última leitura",
    ),
    "away": ("afwezig", "nicht erreichbar", "absent", "ausente", "ausente"),
    "back": ("terug", "wieder da", "de retour", "de vuelta", "de volta"),
    "fault over": ("storing voorbij", "Störung vorbei", "fin du défaut", "fin del fallo", "fim da falha"),
    "refused reading": (
        "geweigerde meting",
        "verworfene Messung",
        "mesure refusée",
        "lectura rechazada",
        "leitura recusada",
    ),
    "power limit": (
        "vermogensgrens",
        "Leistungsgrenze",
        "limite de puissance",
        "límite de potencia",
        "limite de potência",
    ),
    "program started": (
        "programma gestart",
        "Programm gestartet",
        "programme démarré",
        "programa iniciado",
        "programa iniciado",
    ),
    "program stopped": (
        "programma gestopt",
        "Programm beendet",
        "programme arrêté",
        "programa detenido",
        "programa parado",
    ),
    "replaced": ("vervangen", "ersetzt", "remplacé", "sustituido", "substituído"),
    "fault": ("storing", "Störung", "défaut", "fallo", "falha"),
    "broker": ("broker", "Broker", "broker", "bróker", "broker"),
    "connected": ("verbonden", "verbunden", "connecté", "conectado", "ligado"),
    "not connected": ("niet verbonden", "nicht verbunden", "non connecté", "no conectado", "não ligado"),
    "waiting messages": (
        "wachtende berichten",
        "wartende Nachrichten",
        "messages en attente",
        "mensajes en espera",
        "mensagens em espera",
    ),
    "previous": ("vorige", "zurück", "précédent", "anterior", "anterior"),
    "next": ("volgende", "weiter", "suivant", "siguiente", "seguinte"),
    "earlier": ("eerder", "früher", "plus tôt", "anteriores", "anteriores"),
    "highest": ("hoogste", "höchster Wert", "maximum", "máximo", "máximo"),
    "mean": ("gemiddeld", "Durchschnitt", "moyenne", "media", "média"),
    "best day": ("beste dag", "bester Tag", "meilleur jour", "mejor día", "melhor dia"),
    "a year before": ("een jaar eerder", "ein Jahr davor", "un an avant", "un año antes", "um ano antes"),
    "no data": ("geen gegevens", "keine Daten", "pas de données", "sin datos", "sem dados"),
    "energy": ("energie", "Energie", "énergie", "energía", "energia"),
    "time": ("tijd", "Zeit", "heure", "hora", "hora"),
    "event": ("gebeurtenis", "Ereignis", "événement", "evento", "evento"),
    "details": ("bijzonderheden", "Einzelheiten", "détails", "detalles", "detalhes"),
    "all": ("alle", "alle", "tous", "todos", "todos"),
    "show": ("tonen", "anzeigen", "afficher", "mostrar", "mostrar"),
    "version": ("versie", "Version", "version", "versión", "versão"),
    "running for": ("draait sinds", "läuft seit", "en marche depuis", "en marcha desde hace", "a correr há"),
    "refused readings": (
        "geweigerde metingen",
        "verworfene Messungen",
        "mesures refusées",
        "lecturas rechazadas",
        "leituras recusadas",
    ),
    "last losses": (
        "laatste verliezen",
        "letzte Ausfälle",
        "dernières pertes",
        "últimas pérdidas",
        "últimas perdas",
    ),
    "none": ("geen", "keine", "aucun", "ninguno", "nenhum"),
    "no inverter yet": (
        "nog geen omvormer gevonden",
        "noch kein Wechselrichter gefunden",
        "aucun onduleur trouvé pour l'instant",
        "aún no se ha encontrado ningún inversor",
        "ainda não foi encontrado nenhum inversor",
    ),
    "No history is kept; [history] in the configuration switches it on.": (
        "Er wordt geen geschiedenis bewaard; zet [history] in de configuratie om dat te doen.",
        "Es wird kein Verlauf aufgezeichnet; [history] in der Konfiguration schaltet ihn ein.",
        "Aucun historique n'est enregistré ; [history] dans la configuration l'active.",
        "No se guarda ningún historial; [history] en la configuración lo activa.",
        "Não é guardado nenhum histórico; [history] na configuração liga-o.",
    ),
    "There is no such page.": (
        "Deze pagina bestaat niet.",
        "Diese Seite gibt es nicht.",
        "Cette page n'existe pas.",
        "Esta página no existe.",
        "Esta página não existe.",
    ),
    "corrected": ("gecorrigeerd", "korrigiert", "corrigé", "corregido", "corrigido"),
    "live": ("live", "live", "en direct", "en vivo", "em direto"),
    "data as": ("gegevens als", "Daten als", "données en", "datos como", "dados como"),
    "peak": ("piek", "Spitze", "pointe", "pico", "pico"),
    "from": ("van", "von", "de", "desde", "de"),
    "until": ("tot", "bis", "à", "hasta", "até"),
    "memory": ("geheugen", "Speicher", "mémoire", "memoria", "memória"),
    "dropped parts": (
        "uitgevallen onderdelen",
        "ausgefallene Teile",
        "parties arrêtées",
        "partes detenidas",
        "partes paradas",
    ),
}
"""English to nl, de, fr, es, pt, in the order of LANGUAGES."""

_MONTHS = {
    "en": "January February March April May June July August September October November December",
    "nl": "januari februari maart april mei juni juli augustus september oktober november december",
    "de": "Januar Februar März April Mai Juni Juli August September Oktober November Dezember",
    "fr": "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "es": "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "pt": "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
}
THIN = "\u202f"
"""Between thousands, where a full stop or a comma could be taken for the decimal sign."""
KILO = 1000.0


class Words:
    """One language."""

    def __init__(self, language: str) -> None:
        """`language` is one of LANGUAGES."""
        self.language = language
        self._index = LANGUAGES.index(language) - 1
        self._months = _MONTHS[language].split()

    def __getitem__(self, english: str) -> str:
        """The word for it. Raises KeyError for one that is not known, whatever the language."""
        others = _WORDS[english]
        return english if self.language == ENGLISH else others[self._index]

    def title(self, english: str) -> str:
        """The word at the beginning of a line."""
        word = self[english]
        return word[:1].upper() + word[1:]

    def number(self, value: float, digits: int = 0) -> str:
        """With so many digits behind the decimal sign of the language."""
        text = f"{value:,.{digits}f}".replace(",", THIN)
        if text.strip("-0.") == "":
            text = text.removeprefix("-")
        return text if self.language == ENGLISH else text.replace(".", ",")

    def power(self, watts: float) -> str:
        """Watts, with their unit."""
        return f"{self.number(watts)} W" if abs(watts) < 10 * KILO else f"{self.number(watts / KILO, 1)} kW"

    def energy(self, kilowatt_hours: float) -> str:
        """Kilowatt hours, with their unit."""
        return f"{self.number(kilowatt_hours, 1 if kilowatt_hours < KILO else 0)} kWh"

    def time(self, moment: float, zone: tzinfo | None) -> str:
        """Hour and minute of a moment (seconds since 1970) in `zone`, None for the machine's."""
        return f"{datetime.fromtimestamp(moment, zone):%H:%M}"

    def moment(self, moment: float, zone: tzinfo | None) -> str:
        """Date and time of a moment, sortable, the same in every language."""
        return f"{datetime.fromtimestamp(moment, zone):%Y-%m-%d %H:%M:%S}"

    def month(self, number: int) -> str:
        """The name of a month, 1 to 12."""
        return self._months[number - 1]

    def date(self, day: date) -> str:
        """A day in words."""
        dot, of = ("." if self.language == "de" else ""), (" de" if self.language in ("es", "pt") else "")
        return f"{day.day}{dot}{of} {self.month(day.month)}{of} {day.year}"

    def month_of(self, year: int, month: int) -> str:
        """A month with its year."""
        of = " de" if self.language in ("es", "pt") else ""
        name = self.month(month)
        return f"{name[:1].upper()}{name[1:]}{of} {year}"

    def duration(self, seconds: float) -> str:
        """In the largest unit that fits, units as everywhere."""
        for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
            if seconds >= 2 * length:
                return f"{int(seconds / length)} {unit}"
        return f"{max(0, round(seconds))} s"


def language_of(wish: str, otherwise: str = ENGLISH) -> str:
    """The language for the `Accept-Language` header of a browser: the best liked of those that we have."""
    liked = []
    for number, part in enumerate(wish[:1000].split(",")):
        name, _, rest = part.strip().partition(";")
        liked.append((-_quality(rest), number, name.strip().lower().split("-")[0]))
    known: Sequence[str] = [name for quality, _, name in sorted(liked) if quality < 0 and name in LANGUAGES]
    return known[0] if known else otherwise


def _quality(rest: str) -> float:
    name, _, number = rest.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(number)
    except ValueError:
        return 0.0
