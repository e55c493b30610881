"""Work modes and errors in the languages of the people who read them; the numbers are the same everywhere."""

from .fields import ERROR_BITS, WORK_MODES

ENGLISH = "en"

_WORK_MODES = {
    "nl": ("wachten", "normaal", "storing", "blijvende storing", "controle"),
    "de": ("Warten", "Normal", "Störung", "dauerhafte Störung", "Prüfung"),
    "fr": ("attente", "normal", "défaut", "défaut permanent", "vérification"),
    "es": ("espera", "normal", "fallo", "fallo permanente", "comprobación"),
    "pt": ("espera", "normal", "falha", "falha permanente", "verificação"),
}
"""In the order of the numbers 0 to 4."""

_ERRORS = {
    31: (
        "interne communicatiestoring",
        "interner Kommunikationsfehler",
        "défaut de communication interne",
        "fallo de comunicación interna",
        "falha de comunicação interna",
    ),
    30: ("EEPROM-storing", "EEPROM-Fehler", "défaut EEPROM", "fallo de EEPROM", "falha de EEPROM"),
    29: (
        "netfrequentie buiten bereik",
        "Netzfrequenz außerhalb des Bereichs",
        "fréquence du réseau hors limites",
        "frecuencia de red fuera de rango",
        "frequência da rede fora dos limites",
    ),
    28: (
        "DSP-communicatiestoring",
        "DSP-Kommunikationsfehler",
        "défaut de communication DSP",
        "fallo de comunicación DSP",
        "falha de comunicação DSP",
    ),
    27: (
        "fasehoekstoring",
        "Phasenwinkelfehler",
        "défaut d'angle de phase",
        "fallo de ángulo de fase",
        "falha de ângulo de fase",
    ),
    25: (
        "relaiscontrole mislukt",
        "Relaisprüfung fehlgeschlagen",
        "échec du contrôle des relais",
        "fallo de comprobación de relés",
        "falha na verificação dos relés",
    ),
    23: (
        "netspanning door de twee processors verschillend gemeten",
        "Netzspannung von den zwei Prozessoren verschieden gemessen",
        "tension du réseau mesurée différemment par les deux processeurs",
        "tensión de red medida de forma distinta por los dos procesadores",
        "tensão da rede medida de forma diferente pelos dois processadores",
    ),
    22: (
        "netfrequentie door de twee processors verschillend gemeten",
        "Netzfrequenz von den zwei Prozessoren verschieden gemessen",
        "fréquence du réseau mesurée différemment par les deux processeurs",
        "frecuencia de red medida de forma distinta por los dos procesadores",
        "frequência da rede medida de forma diferente pelos dois processadores",
    ),
    20: (
        "noodstroom overbelast",
        "Notstrom überlastet",
        "secours en surcharge",
        "respaldo sobrecargado",
        "reserva em sobrecarga",
    ),
    19: (
        "DC-injectie te hoog",
        "DC-Einspeisung zu hoch",
        "injection de courant continu trop élevée",
        "inyección de CC demasiado alta",
        "injeção de CC demasiado alta",
    ),
    18: (
        "isolatiefout",
        "Isolationsfehler",
        "défaut d'isolement",
        "fallo de aislamiento",
        "falha de isolamento",
    ),
    17: (
        "netspanning buiten bereik",
        "Netzspannung außerhalb des Bereichs",
        "tension du réseau hors limites",
        "tensión de red fuera de rango",
        "tensão da rede fora dos limites",
    ),
    16: (
        "ventilatorstoring",
        "Lüfterfehler",
        "défaut du ventilateur",
        "fallo del ventilador",
        "falha do ventilador",
    ),
    15: (
        "PV-spanning te hoog",
        "PV-Spannung zu hoch",
        "tension PV trop élevée",
        "tensión FV demasiado alta",
        "tensão FV demasiado alta",
    ),
    14: (
        "zelftest mislukt",
        "Selbsttest fehlgeschlagen",
        "échec de l'autotest",
        "fallo de autoprueba",
        "falha no autoteste",
    ),
    13: (
        "temperatuur te hoog",
        "Temperatur zu hoch",
        "température trop élevée",
        "temperatura demasiado alta",
        "temperatura demasiado alta",
    ),
    12: (
        "firmware van de processors past niet bij elkaar",
        "Firmware der Prozessoren passt nicht zusammen",
        "micrologiciels des processeurs incompatibles",
        "firmware incompatible entre los procesadores",
        "firmware incompatível entre os processadores",
    ),
    11: (
        "DC-busspanning te hoog",
        "DC-Busspannung zu hoch",
        "tension du bus continu trop élevée",
        "tensión del bus de CC demasiado alta",
        "tensão do barramento CC demasiado alta",
    ),
    10: (
        "aardlekstroom te hoog",
        "Erdstrom zu hoch",
        "courant de terre trop élevé",
        "corriente a tierra demasiado alta",
        "corrente à terra demasiado alta",
    ),
    9: ("net uitgevallen", "Netzausfall", "perte du réseau", "pérdida de la red", "perda da rede"),
    8: (
        "AC-stroomsensor defect",
        "AC-Stromsensor defekt",
        "défaut du capteur de courant alternatif",
        "fallo del sensor de corriente CA",
        "falha do sensor de corrente CA",
    ),
    7: ("relais defect", "Relais defekt", "défaut du relais", "fallo del relé", "falha do relé"),
    6: (
        "aardlekbewaking defect",
        "Fehlerstromüberwachung defekt",
        "défaut du dispositif différentiel",
        "fallo del dispositivo GFCI",
        "falha do dispositivo GFCI",
    ),
    4: (
        "aardlekstroom door de twee processors verschillend gemeten",
        "Fehlerstrom von den zwei Prozessoren verschieden gemessen",
        "courant différentiel mesuré différemment par les deux processeurs",
        "corriente diferencial medida de forma distinta por los dos procesadores",
        "corrente diferencial medida de forma diferente pelos dois processadores",
    ),
    3: (
        "DC-injectie door de twee processors verschillend gemeten",
        "DC-Einspeisung von den zwei Prozessoren verschieden gemessen",
        "injection de courant continu mesurée différemment par les deux processeurs",
        "inyección de CC medida de forma distinta por los dos procesadores",
        "injeção de CC medida de forma diferente pelos dois processadores",
    ),
    1: (
        "controle van de AC-stroomsensor mislukt",
        "Prüfung des AC-Stromsensors fehlgeschlagen",
        "échec du contrôle du capteur de courant alternatif",
        "fallo de comprobación del sensor de corriente CA",
        "falha na verificação do sensor de corrente CA",
    ),
    0: (
        "controle van de aardlekbewaking mislukt",
        "Prüfung der Fehlerstromüberwachung fehlgeschlagen",
        "échec du contrôle du dispositif différentiel",
        "fallo de comprobación del dispositivo GFCI",
        "falha na verificação do dispositivo GFCI",
    ),
}
"""Error bit to its name in the languages of _WORK_MODES, in their order."""

LANGUAGES = (ENGLISH, *_WORK_MODES)


def work_mode(number: int, language: str) -> str:
    """The work mode in words; the number itself where nobody knows what it means."""
    if number not in WORK_MODES:
        return str(number)
    return WORK_MODES[number] if language == ENGLISH else _WORK_MODES[language][number]


def error(bit: int, language: str) -> str:
    """An error bit in words; its number where no document assigns it."""
    if bit not in ERROR_BITS:
        return f"bit {bit}"
    return ERROR_BITS[bit] if language == ENGLISH else _ERRORS[bit][LANGUAGES.index(language) - 1]
