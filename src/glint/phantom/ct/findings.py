"""Findings of CT, in the order of insertion: those of X-rays that hold in 3D, and those of a lying patient."""

from glint.phantom.ct.chest import insert_emphysema, insert_mediastinal_nodes, insert_pericardial_effusion
from glint.phantom.ct.pleura import insert_supine_effusion, insert_supine_pneumothorax
from glint.phantom.ct.schema import CT_KINDS
from glint.phantom.ct.vessels import (
    insert_aortic_calcification,
    insert_aortic_dilation,
    insert_coronary_calcification,
)
from glint.phantom.findings import INSERTERS, Inserter
from glint.phantom.findings.hila import insert_hilar_enlargement

_OWN: dict[str, Inserter] = {
    "pericardial_effusion": insert_pericardial_effusion,
    "aortic_dilation": insert_aortic_dilation,
    "pleural_effusion": insert_supine_effusion,
    "pneumothorax": insert_supine_pneumothorax,
    "emphysema": insert_emphysema,
    "hilar_lymphadenopathy": insert_hilar_enlargement,
    "mediastinal_lymphadenopathy": insert_mediastinal_nodes,
    "coronary_calcification": insert_coronary_calcification,
    "aortic_calcification": insert_aortic_calcification,
}
CT_INSERTERS: dict[str, Inserter] = {kind: _OWN.get(kind) or INSERTERS[kind] for kind in CT_KINDS}
