"""Names of all files that segpipe writes, relative to their output folder."""

# A run over images.
JOURNAL = "results.jsonl"
RESULTS = "results.csv"
FAILURES = "failures.csv"
SUBMISSION = "submission.csv"
SUMMARY = "summary.json"
METRICS = "metrics.json"
REPORT, PDF_REPORT = "report.html", "report.pdf"
PLOT_FOLDER = "plots"
PICTURE_FOLDERS = MASKS, FIGURES, CROPS, HEATMAPS = ("masks", "figures", "crops", "heatmaps")
REPORT_FOLDER = "report"
REPORT_PAGES = f"{REPORT_FOLDER}/pages"
REPORT_PICTURES = tuple(f"{REPORT_FOLDER}/{name}" for name in ("thumbnails", "photographs", "crops", "heatmaps", "shapes"))
SIMILAR_PICTURES = f"{REPORT_FOLDER}/similar"
LOCK = ".lock"

# A bundle.
CARD = "card.json"
WEIGHTS = "model.safetensors"
GRAPHS = MODEL_GRAPH, GRADCAM_GRAPH = ("model.onnx", "gradcam.onnx")
REFERENCES = GATE, SIMILAR = ("gate.safetensors", "similar.safetensors")
GOLDEN = "golden.json"  # images with expected outputs

# A training.
CONFIG = "config.yaml"
SPLIT = "split.csv"
EPOCH_TABLE = "metrics.csv"
TRAINING_PICTURES = TRAINING_PLOT, TRAIN_BATCH, VAL_PREDICTIONS = tuple(
    f"{PLOT_FOLDER}/{name}.png" for name in ("training", "train_batch", "val_predictions")
)
CHECKPOINTS = "checkpoints"
BEST_CHECKPOINT, LAST_CHECKPOINT = "best.ckpt", "last.ckpt"
BUNDLE = "bundle"
TEST = "test"
PREDICTIONS = "predictions.png"
MASK_TABLE = "masks.csv"
FOUND_MASKS = "found_masks"
TEACHERS = "teachers"
FOLD, FOLD_TABLE = "out_of_fold", "out_of_fold.csv"
TRACKER_FOLDERS = TENSORBOARD, WANDB, MLFLOW = ("tensorboard", "wandb", "mlflow")
TRACKER_RUN = "run_id"
MLFLOW_STORE, MLFLOW_FILES = "mlflow.db", "artifacts"

# A sweep and each of its jobs.
JOB_RECORD = "job.json"
LEADERBOARD, LEADERBOARD_PLOT = "leaderboard.csv", "leaderboard.png"
FAILED_JOBS = "failed.csv"

# A comparison.
COMPARISON, COMPARISON_TEXT = "comparison.csv", "comparison.md"
COMPARISON_PLOTS = ROC_PLOT, METRICS_PLOT, COST_PLOT = ("roc.png", "metrics.png", "cost.png")
COMPARED_RUNS = "runs"

# Converted annotations and samples, beside MASKS.
LABELS = "labels.csv"

# An audit.
GATE_AUDIT = "gate.json"
LABEL_TABLE, LABEL_SHEET = "label_errors.csv", "label_errors.png"

_RUN_PATTERNS = (
    *(JOURNAL, RESULTS, FAILURES, SUBMISSION, SUMMARY, METRICS, REPORT, PDF_REPORT),
    *(f"{folder}/**/*.png" for folder in (*PICTURE_FOLDERS, PLOT_FOLDER)),
    *(f"{folder}/**/*.jpg" for folder in (*REPORT_PICTURES, SIMILAR_PICTURES)),
    *(f"{REPORT_PAGES}/**/*.{ending}" for ending in ("html", "htm")),
)
_TRAINING_PATTERNS = (
    *(CONFIG, SPLIT, EPOCH_TABLE, *TRAINING_PICTURES, FOLD_TABLE),
    *(f"{CHECKPOINTS}/*.ckpt", f"{CHECKPOINTS}/*.part", f"{FOUND_MASKS}/*.png", f"{TEACHERS}/*.npy"),
    *(f"{TENSORBOARD}/events.out.tfevents.*", f"{TENSORBOARD}/hparams.yaml"),
    *(f"{MLFLOW}/{TRACKER_RUN}", f"{MLFLOW}/{MLFLOW_STORE}*", f"{MLFLOW}/{MLFLOW_FILES}/**/*"),
    *(f"{WANDB}/{TRACKER_RUN}", f"{WANDB}/debug*.log", f"{WANDB}/*run-*/**/*"),
    *(f"{BUNDLE}/{name}" for name in (WEIGHTS, CARD, *GRAPHS, *REFERENCES, GOLDEN)),
    *(f"{folder}/{pattern}" for folder in (TEST, FOLD) for pattern in (PREDICTIONS, MASK_TABLE, *_RUN_PATTERNS)),
)
# Patterns of the files that `overwrite=true` removes, by the file that shows that a folder holds results.
WRITTEN_FILES = {
    JOURNAL: _RUN_PATTERNS,
    RESULTS: _RUN_PATTERNS,
    f"{CHECKPOINTS}/{LAST_CHECKPOINT}": _TRAINING_PATTERNS,
    f"{BUNDLE}/{CARD}": _TRAINING_PATTERNS,
}

# Sets of files that together mark the folder of a run, job, training, bundle, test, comparison, sweep or audit.
OUTPUT_SIGNS = (
    {JOURNAL},
    {JOB_RECORD},
    {CONFIG, SPLIT},
    {f"{BUNDLE}/{CARD}", f"{BUNDLE}/{WEIGHTS}"},
    {CARD, WEIGHTS},
    {METRICS, PREDICTIONS},
    {COMPARISON, COMPARISON_TEXT},
    {LEADERBOARD, FAILED_JOBS},
    {LABEL_TABLE, LABEL_SHEET},
)
# Names that segpipe writes into a folder with other content, by the file that shows it.
OUTPUT_NAMES = {
    JOURNAL: (*PICTURE_FOLDERS, PLOT_FOLDER, REPORT_FOLDER),
    CONFIG: (FOUND_MASKS, CHECKPOINTS, BUNDLE, FOLD, *TRACKER_FOLDERS),
    COMPARISON: (COMPARED_RUNS, *COMPARISON_PLOTS),
    LEADERBOARD: (LEADERBOARD_PLOT,),
    LABEL_TABLE: (LABEL_SHEET,),
}
