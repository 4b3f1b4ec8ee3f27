"""Addresses."""

from __future__ import annotations

import pytest

from imagedata_xr.pacs.peer import Peer, peer_of, split_address


def test_ports_that_are_registered_need_not_be_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert peer_of("dicom://pacs/A").port == 104
    assert split_address("dicom+tls://pacs/A")[0].port == 2762
    assert split_address("dicom+tls://pacs/A")[0].tls is not None
    monkeypatch.setenv("IMAGEDATA_XR_AET", "WARD 7")
    assert peer_of("dicom://pacs:1/A").calling_aet == "WARD 7"
    assert peer_of(Peer("pacs", 1, "A/B C#").url).aet == "A/B C#"
    assert peer_of("dicom://[::1]:11112/A").url == "dicom://[::1]:11112/A"
    assert str(peer_of("dicom://[::1]:11112/A")) == "A at [::1]:11112"


@pytest.mark.parametrize(
    "url",
    [
        "dicom://pacs",
        "dicom:///A",
        "dicom://pacs:99999/A",
        "dicom://pacs/A?x=1",
        "ftp://pacs/A",
        "dicom://pacs/" + "A" * 17,
    ],
)
def test_what_is_no_address_says_what_is_wanted(url: str) -> None:
    with pytest.raises(ValueError, match="wanted"):
        split_address(url)


def test_secrets_in_an_address_are_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="has a user") as caught:
        split_address("dicom://me:secret@pacs:104/A")
    assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="more than the AE title"):
        peer_of("dicom://pacs:104/A/P1")
    with pytest.raises(ValueError, match="timeout"):
        Peer("pacs", 104, "A", timeout=0)
