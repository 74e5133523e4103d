"""Table of the subcommands; `segpipe.cli.running` adds their keys to the help pages."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Subcommand:
    """A subcommand of `segpipe`.

    Attributes:
        summary: Line for the list of subcommands and the head of the help page.
        config: Name of the primary configuration in conf/.
        work: Function that takes the configuration, as `module:function` within `segpipe.cli`.
        examples: Arguments of example calls, as a shell reads them.
        notes: Text for the end of the help page.
        keys: Top-level keys on the help page; empty for all.
        plain: Function that runs a call without Hydra where it can, named like `work`; empty for none.
    """

    summary: str
    config: str
    work: str
    examples: tuple[str, ...]
    notes: str = ""
    keys: tuple[str, ...] = ()
    plain: str = ""


_AS_TRAINING = "All keys of train-cls are accepted, so that the arguments of a training can be tried here."
_SWEEPS = "A second start of a sweep runs only what is missing, see docs/sweeps.md."

SUBCOMMANDS = {
    "predict": Subcommand(
        "find, crop and classify the lesion in images, and explain the diagnosis",
        "run_pipeline",
        "data:predict",
        (
            "image=photo.jpg",
            "'image=[a.jpg,b.jpg]' tta=none explain=none",
            "folder=photos output=results report=html",
            "folder=photos output=results report=html resume=true",
            "folder=data/samples labels=data/samples/labels.csv masks=data/samples/masks",
        ),
        "--multirun tries several values, for example tta=none,flips,d4,crops.",
        plain="data:predict_plain",
    ),
    "train-seg": Subcommand(
        "train the U-Net that finds the lesion, and score it on the test split",
        "train_seg",
        "data:train_segmenter",
        (
            "data=synthetic trainer.max_epochs=2",
            "data.root=/path/to/ham10000 output=runs/segmenter",
            "segmenter=unet_resnet18 segmenter.init=imagenet",
            "segmenter=unet segmenter.encoder=mit_b0",
            "+experiment=fine_tune_segmenter data=folders data.root=my_images data.without_lesion_ids=true",
            "output=runs/segmenter resume=true trainer.max_epochs=20",
        ),
        f"--multirun tries several values, for example optimizer.lr=1e-3,3e-4. {_SWEEPS}",
    ),
    "train-cls": Subcommand(
        "train the classifier, and score it on the test split",
        "train_cls",
        "data:train_classifier",
        (
            "data=synthetic trainer.max_epochs=2",
            "data.root=/path/to/ham10000 classifier.init=imagenet output=runs/classifier",
            "+experiment=fine_tune data=folders data.root=my_images data.without_lesion_ids=true",
            "data=isic2019 data.root=/path/to/isic2019 'data.classes=[bcc,bkl,mel,nv]'",
            "classifier=timm classifier.name=regnety_002 classifier.attention=cbam",
            "split=runs/segmenter/split.csv bundle.segmenter=runs/segmenter/bundle",
            "split=runs/a/split.csv 'distill.teacher=[runs/a/bundle,runs/b/bundle]'",
            "--multirun crop=margin,masked,tight,whole_image output=runs/crops",
            "--multirun +sweep=folds data.root=/path/to/ham10000",
        ),
        f"--multirun tries several values, for example loss=focal,weighted_cross_entropy. {_SWEEPS}",
    ),
    "check": Subcommand(
        "check a data set before a training",
        "train_cls",
        "data:check",
        (
            "data.root=/path/to/ham10000",
            "data=folders data.root=my_images data.without_lesion_ids=true",
            "data=csv data.root=my_images data.table=labels.csv",
        ),
        f"{_AS_TRAINING} The report lists usable images, images per diagnosis, and each kind of defect with examples. Nothing is "
        "written. Exit status: 0 the data set can be used, 2 it cannot.",
        ("data",),
    ),
    "leaks": Subcommand(
        "list lesions and images that the parts of a split share",
        "train_cls",
        "data:leaks",
        ("data.root=/path/to/ham10000", "data.root=/path/to/ham10000 split=runs/classifier/split.csv"),
        f"{_AS_TRAINING} The report has a line for each lesion in two parts, and for each pair of images in two parts that show "
        "the same skin. Nothing is written. Exit status: 0 nothing is shared, 1 something is shared, 2 a wrong call.",
        ("data", "split", "seed"),
    ),
    "compare": Subcommand(
        "compare the metrics and the cost of trained classifiers on one labeled folder",
        "compare",
        "models:compare",
        (
            "'bundles=[runs/resnet18/bundle,runs/efficientnet_b0/bundle]' folder=photos labels=labels.csv",
            "'bundles=[runs/a/bundle,runs/b/bundle]' 'titles=[ResNet-18,\"B0, with CBAM\"]' output=runs/comparison "
            "folder=data/ham10000 labels=data/ham10000/HAM10000_metadata.csv split=segpipe/weights/split.csv part=test",
        ),
    ),
    "ablations": Subcommand(
        "compare finished runs over the same images with the first of them",
        "ablations",
        "models:ablations",
        (
            "'runs=[runs/reference/test,runs/focal/test]' labels=data/ham10000/HAM10000_metadata.csv",
            "'runs=[out/a,out/b]' 'titles=[as shipped,\"margin 0.5\"]' labels=labels.csv masks=masks",
        ),
        "The table is Markdown, on stdout, with intervals for the paired differences. Give labels or masks, or both.",
    ),
    "heatmaps": Subcommand(
        "test the faithfulness of the heatmaps of trained classifiers",
        "heatmaps",
        "models:heatmaps",
        (
            "'bundles=[runs/a/bundle]' folder=photos",
            "'bundles=[segpipe/weights/classifier]' 'titles=[shipped]' output=docs/results/heatmaps.json folder=data/ham10000 "
            "split=segpipe/weights/split.csv part=test",
        ),
        "docs/heatmaps.md defines the metrics.",
    ),
    "export": Subcommand(
        "write half-precision copies of trained models, or add ONNX graphs to them",
        "export",
        "models:export",
        (
            "data.root=/path/to/ham10000 bundle.segmenter=runs/seg/bundle bundle.classifier=runs/cls/bundle output=models",
            "data.root=/path/to/ham10000 output=models results=runs/scored",
            "bundle.classifier=runs/cls/bundle",
        ),
        "Copies have graphs, too. Without output=, graphs are added to the models where they are, and compared with PyTorch on "
        "the generated samples instead of test images.",
    ),
    "card": Subcommand(
        "write the model card of a segmenter and a classifier",
        "card",
        "models:card",
        ("", "bundle.classifier=runs/mine/bundle output=runs/mine/model_card.md"),
        "The card is Markdown, made from the two card.json.",
    ),
    "selftest": Subcommand(
        "compare the outputs of trained models with the expected ones",
        "selftest",
        "models:selftest",
        ("", "bundle.classifier=runs/mine/bundle"),
        "Exit status: 0 all agree, 1 some differ, 2 a model cannot be used.",
    ),
    "audit gate": Subcommand(
        "measure which images the input gate rejects",
        "audit_gate",
        "audits:gate",
        (
            "data.root=/path/to/ham10000 outside=photos",
            "data.root=/path/to/ham10000 'outside=[photos,documents]' bundle.segmenter=runs/seg/bundle output=audit",
        ),
        "docs/trust.md explains the gate. Besides validation and test images as they are, there are test images with the lesion "
        "boxed out, strips of skin without the lesion, and blurred, noisy, compressed, darker and brighter images.",
    ),
    "annotations": Subcommand(
        "convert masks and labels from and to COCO, Label Studio and CVAT",
        "annotations",
        "data:annotations",
        (
            "run=results output=coco.json",
            "run=results format=label_studio output=tasks.json",
            "run=results format=cvat shape=polygon output=cvat.xml",
            "masks=corrected.json format=masks output=corrected",
            "masks=photos/masks folder=photos labels=labels.csv output=coco.json",
        ),
        "docs/annotations.md shows how outlines are corrected in these tools. Trainings and scores read the files of COCO, Label "
        "Studio and CVAT as they are: data.masks=FILE, masks=FILE labels=FILE.",
    ),
    "audit labels": Subcommand(
        "rank likely errors among the labels of a data set",
        "audit_labels",
        "audits:labels",
        (
            "predictions=runs/folds/out_of_fold.csv folder=data/ham10000 output=audit",
            "predictions=results/results.csv labels=labels.csv folder=photos",
        ),
        "docs/label_errors.md explains the ranking. The model must not have been trained on the images: predictions of a "
        "cross-validation (train-cls --multirun +sweep=folds) cover a whole data set.",
    ),
    "synthetic": Subcommand(
        "draw sample images with masks and labels",
        "synthetic",
        "data:synthetic",
        ("output=samples", "output=samples seed=7"),
        "data=synthetic gives a training a whole data set of drawn images.",
    ),
    "app": Subcommand(
        "open the web page, on this machine alone",
        "app_server",
        "models:app",
        ("", "bundles=runs port=8600", "bundle.classifier=runs/mine/bundle tta=none device=cpu"),
        'The page needs pip install "segpipe[app]". The environment variables STREAMLIT_... set the options of Streamlit itself.',
    ),
}


def find_subcommand(words: Sequence[str]) -> tuple[str, list[str]]:
    """Separate the name of a subcommand from its arguments.

    Args:
        words: Words of a call, one or more, that begin with the name.

    Returns:
        Name of one word or two, and the other words; the name may be unknown.
    """
    both = " ".join(words[:2])
    return (both, list(words[2:])) if both in SUBCOMMANDS else (words[0], list(words[1:]))


def load_function(name: str) -> Callable[..., Any]:
    """Import a function, given as `module:function` within `segpipe.cli`."""
    module, _, function = name.partition(":")
    loaded: Callable[..., Any] = getattr(import_module(f"segpipe.cli.{module}"), function)
    return loaded
