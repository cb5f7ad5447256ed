"""Tables of patients, nodes and centres: taken as they say, nothing guessed."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.patches.origins import Origins


def origins(tmp_path, text):
    path = tmp_path / "table.csv"
    path.write_text(text)
    return Origins.read(path)


def test_without_a_table_names_of_camelyon17_count():
    assert Origins().of("patient_024_node_4.tif") == {"patient": "24", "node": "4", "centre": "1"}
    assert Origins().of("tumor_001.tif") == {}
    assert Origins().unknown(["tumor_001.tif"]) == []


def test_a_table_counts_and_names_count_no_more(tmp_path):
    found = origins(
        tmp_path, "slide,patient,centre\ntumor_001,A 7,Utrecht\nB.svs,,Nijmegen\npatient_000_node_1.tif,12\n"
    )
    assert found.of("tumor_001.tif") == found.of("TUMOR_001.svs") == {"patient": "A 7", "centre": "Utrecht"}
    assert found.of("B.svs") == {"centre": "Nijmegen"}
    assert found.of("B.tif") == {}
    assert found.of("patient_000_node_1.tif") == {"patient": "12"}
    assert found.of("patient_024_node_4.tif") == {}
    assert found.unknown(["tumor_001.tif", "patient_024_node_4.tif"]) == ["patient_024_node_4.tif"]


def test_it_may_come_from_any_spreadsheet(tmp_path):
    assert origins(tmp_path, "Node;Slide\n2;x\n").of("x.tif") == {"node": "2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "says nothing; expected the columns slide and some of patient, node, centre"),
        ("slide\nx\n", "expected the columns slide"),
        ("patient,node\n1,2\n", "expected the columns slide"),
        ("slide,patient,colour\nx,1,red\n", "expected the columns slide"),
        ("slide,patient,patient\nx,1,2\n", "expected the columns slide"),
        ("slide,patient\nx,1\nX,2\n", "line 3: slide X is in line 2 already"),
        ("slide,patient\n,1\n", "line 2: names no slide"),
        ("slide,patient\nx,1,2\n", "line 2: 3 cells for 2 columns"),
    ],
)
def test_other_tables_are_refused_by_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said):
        origins(tmp_path, text)


def test_bytes_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes(b"slide,patient\nx,M\xfcller\n")
    with pytest.raises(InputError, match="line 2: is no plain text"):
        Origins.read(path)
