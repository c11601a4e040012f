"""What the sentences of a radiology report say: sections, sentences, presence and absence.

Import from `glint.text.semantics`; the other modules are its layers (sections -> cues -> clauses -> polarity).
"""
