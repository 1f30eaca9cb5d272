from sleeptools.commands.agree import agree as agree
from sleeptools.commands.score.one import score_one as score
from sleeptools.commands.score.scoring import Scoring as Scoring
from sleeptools.commands.score.sleep_table import statistics as statistics
from sleeptools.formats import read_any as read
from sleeptools.formats import read_hypnogram as read_hypnogram
from sleeptools.formats import write_hypnogram as write_hypnogram
from sleeptools.inference.engine import Engine as Engine
from sleeptools.recording.hypnogram import Hypnogram as Hypnogram
from sleeptools.recording.mne import from_mne as from_mne
from sleeptools.recording.mne import to_mne as to_mne
from sleeptools.recording.recording import Recording as Recording
from sleeptools.report.hypnogram_figure import plot as plot

__version__: str
__all__ = [
    "Engine",
    "Hypnogram",
    "Recording",
    "Scoring",
    "agree",
    "from_mne",
    "plot",
    "read",
    "read_hypnogram",
    "score",
    "statistics",
    "to_mne",
    "write_hypnogram",
]
