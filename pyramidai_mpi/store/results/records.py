"""What stored files say of slide, model and levels; whoever calls these names damage (`tables.damage_is_named`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.store.results.result import CELL_ATTRIBUTES, LevelRecord, ModelRecord, SlideRecord

if TYPE_CHECKING:
    import h5py


def read_slide_record(file: h5py.File) -> SlideRecord:
    """The slide of an open result; whoever calls it names damage (`damage_is_named`)."""
    slide = file["slide"].attrs
    return SlideRecord(
        name=str(slide["name"]),
        quickhash=str(slide["quickhash"]),
        vendor=str(slide["vendor"]),
        l0_size=(int(slide["dimensions"][0]), int(slide["dimensions"][1])),
        mpp=float(slide["mpp"]),
        l0_bounds=(int(slide["bounds_x"]), int(slide["bounds_y"])),
        sha256=str(slide["sha256"]) if "sha256" in slide else None,
        openslide_quickhash1=str(slide["openslide_quickhash1"]) if "openslide_quickhash1" in slide else None,
    )


def read_model_record(file: h5py.File, group: str = "model") -> ModelRecord:
    """The model of an open result, or its encoder; whoever calls it names damage (`damage_is_named`)."""
    model = file[group].attrs
    return ModelRecord(
        name=str(model["name"]),
        classes=tuple(str(name) for name in model["classes"]),
        positive_class=str(model["positive_class"]),
        tile_size=int(model["tile_size"]),
        scale_factor=int(model["scale_factor"]),
        base_mpp=float(model["base_mpp"]),
        stain=str(model["stain"]),
        level_sha256=tuple(str(sha256) for sha256 in model["level_sha256"]),
        yaml_text=str(model["yaml"]),
        intended_use=str(model["intended_use"]) if "intended_use" in model else None,
    )


def read_level_record(group: h5py.Group) -> LevelRecord:
    """A level of an open result, likewise."""
    attributes = group.attrs
    return LevelRecord(
        patch_size=int(attributes["patch_size"]),
        patch_size_level0=int(attributes["patch_size_level0"]),
        patch_level=int(attributes["patch_level"]),
        downsample=float(attributes["downsample"]),
        level_dim=(int(attributes["level_dim"][0]), int(attributes["level_dim"][1])),
        spacing_um_px=float(attributes["spacing_um_px"]),
        threshold=float(attributes["threshold"]),
        n_features=int(group["features"].shape[1]) if "features" in group else 0,
        feature_type=group["features"].dtype.name if "features" in group else "float32",
        **{
            name: int(attributes[stored])
            for name, stored in CELL_ATTRIBUTES.items()
            # where tiles are windows side by side, network and cell stand there too, but say nothing new
            if "margin_px" in attributes and stored in attributes
        },
    )
