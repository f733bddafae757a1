"""Units of measurement, as they stand in names, below them, and behind numbers."""

_UNITS = """
    °C °F K degC degF C F bar mbar Pa hPa kPa MPa psi A mA V mV kV W kW MW kWh MWh VA kVA Hz kHz
    rpm 1/min min-1 U/min tr/min mm/s m/s m/s2 m/s² g mm cm m µm um l/min L/min l/s l/h L/h m3/h
    m³/h m3/s m³/s m3/min Nm3/h Nm³/h kg/h kg/s t/h kg t N kN Nm % ppm s sec ms min h - 1 [-] UTC
    deg ° rad rad/s dB dBA µS/cm pH Ohm Ω kOhm %RH %rH %rF RPM Bar PSI l L m3 m³ kvar kJ MJ GJ
    degT nmi ft kn yr dy hr mn inHg mmHg ft/s mph gpm cfm psig psia lb lbs kip
    km/h mg/l g/l NTU var µA µV g/m3 g/m³ W/m2 W/m² mbar(a) mbar(g) bar(a) bar(g) bara barg ℃ ℉
"""
UNITS = frozenset([*_UNITS.split(), "% RH", "% rH", "% r.F.", "% r.H.", "%r.F.", "% rF", "% HR"])
"""Common units; others are recognized by their brackets."""
_FACTORS = "% ‰ k K M G T m µ u n p B Tsd Tsd. Mio Mio. Mrd Mrd. Mil Mill Bil"
FACTORS = frozenset(_FACTORS.split())
"""What may multiply the number before it: "1.09 K" is a thousand and ninety in many a dashboard."""
