"""Training of `features`: distributions and prototypes in closed form, then the autoencoder at the sites.

Images are judged by what was fitted without them throughout: which are rejected, the criteria that thresholds come
from, and how the distances are weighed, for which copies of images with a synthetic defect stand in for anomalies.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_runtime.errors import ConfigError
from edge_runtime.model.prior import Prior, SiteNormal, StandardNormal
from edge_runtime.model.score import Term
from edge_runtime.verdict import order_line
from train.data.guidance import REJECT
from train.data.image_store import image_chunks
from train.learning.adversarial_step import StepLosses
from train.learning.scoring import map_peaks
from train.learning.site_maps import SiteMaps
from train.learning.snapshot import State, restore_learner, snapshot_learner
from train.learning.strategy import EpochLosses, HeldOut, Phase
from train.learning.task import Task
from train.networks.features_network import CHUNK, LEAST_DISTANCE, PROTOTYPES, STEPS, FeaturesNetwork
from train.networks.patch_network import SiteDiscriminator
from train.refinement.outlying import OutlyingRefinement
from train.refinement.robust import drawn_folds
from train.sites.alike import alike_groups
from train.sites.coreset import farthest_points, held_out_neighbours, neighbour_distances
from train.sites.evening import evening
from train.sites.site_gaussian import SiteSums, distances_from, fit_reduction, inverse_of, refitted, rounded
from train.sites.site_statistics import top_mean
from train.sites.stretches import LEAST_CHANGE, LEAST_GROUPS, at_most, change_along, stretches_of
from train.strategies.site_learner import SiteLearner
from train.structure.fusion import LOWER_QUANTILE, fusion_weights
from train.structure.trial import DISTANCES, StructureTraining, defective_of, head_phases

__all__ = ["FeaturesTraining"]

logger = logging.getLogger(__name__)

SCREENING_ROUNDS = 4
"""At most: what is rejected in one, the next does not fit."""
SCREENING_FOLDS = 20
MOST_GROUPS = 200
"""Groups that are left out one by one; more are put together."""
NEIGHBOUR_FOLDS = 8
FEW_GROUPS = 60
"""Up to which images are judged by fits anew: in closed form the reduction has seen the image, and with few that
counts."""
FEW_FOLDS = 20
LEAST_RATE = 0.01
SITE_DISTANCE, NEIGHBOUR_DISTANCE = range(DISTANCES.start, DISTANCES.stop)
"""Columns of the criteria."""


class FeaturesTraining:
    """Fits and trains the one network of `features`."""

    calibrates_early = False

    def __init__(self, task: Task) -> None:
        """Raises ConfigError where the task has no backbone, or one that cannot take its images."""
        settings = task.settings
        if task.backbone is None:
            raise ConfigError(f"network {settings.network} reads images through a backbone, and was given none")
        _, height, width = task.input_size
        self.task = task
        self.phases: list[Phase] = [Phase("sites", settings.schedule.train)]
        if settings.has_head:
            self.phases += head_phases(settings.head.epochs)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network = FeaturesNetwork(
                task.backbone,
                height=height,
                width=width,
                latent_dim=settings.latent_dim,
                finer=task.finer,
                has_head=settings.has_head,
            )
            adversary = SiteDiscriminator(settings.latent_dim) if settings.method == "aae" else None
        self.learner = SiteLearner(
            network.to(task.device).eval(),
            adversary.to(task.device) if adversary is not None else None,
            learning_rate=settings.learning_rate,
            adversarial_weight=settings.adversary_pull,
        )
        self.structure = StructureTraining(task, network, self.phases) if settings.has_head else None
        self.learner.structure = None if self.structure is None else self.structure.learner
        self.prior: Prior = StandardNormal(settings.latent_dim)
        self.refinement = OutlyingRefinement.fresh(
            settings.robust, task.guidance, len(network.fusion.values), settings.seed, task.groups
        )
        self.maps = SiteMaps(task, network)

    @property
    def autoencoder(self) -> FeaturesNetwork:
        """The network."""
        return self.learner.autoencoder

    @property
    def discriminator(self) -> nn.Module | None:
        """Its adversary."""
        return self.learner.discriminator

    def open_phase(self, index: int) -> None:
        """Of the sites: reduce the features; reject; fit distributions and prototypes; judge every image by those
        without it. Of a head: begin anew."""
        if self.structure is not None and index > 0:
            self.structure.open(index, self.refinement)
            return
        features, drawn = self.maps.drawn()
        believed = self.refinement.guidance != REJECT
        self._fit_reduction(features[torch.from_numpy(believed[drawn])])
        self.maps.reduce_all(features, drawn)
        self._keep_together()
        if self.task.settings.refine == "robust":
            for _ in range(SCREENING_ROUNDS):
                self._screen(believed)
                before, believed = believed, ~self.refinement.candidates
                if np.array_equal(before, believed):
                    break
            if not believed.all():
                self._fit_reduction(features[torch.from_numpy(believed[drawn])])
                self.maps.reduce_all(features, drawn)
        self._fit_statistics(features, believed)
        # As a resumed run will have it, to the bit: the fit has moved the sites' means.
        self.maps.reduce_all(features, drawn)

    def train_epoch(self, index: int, epoch: int, stopped: Callable[[], bool]) -> EpochLosses | None:
        """STEPS gradient steps on the images that are kept."""
        settings, task = self.task.settings, self.task
        if self.structure is not None and index > 0:
            return self.structure.train_epoch(index, epoch, self.refinement, stopped)
        kept = np.flatnonzero(~self.refinement.candidates)
        reduced = self.maps.reduced
        _, _, height, width = reduced.shape
        steps: list[StepLosses] = []
        for step in range(STEPS):
            if stopped():
                return None
            done = (epoch + step / STEPS) / self.phases[index].epochs
            share = LEAST_RATE + (1.0 - LEAST_RATE) * 0.5 * (1.0 + math.cos(math.pi * done))
            self.learner.set_learning_rate(settings.learning_rate * share)
            drawn = torch.randint(len(kept), (settings.batch_size,), generator=task.generator)
            draws = torch.randn(len(drawn), settings.latent_dim, height, width, generator=task.generator)
            batch = reduced[torch.from_numpy(kept)[drawn]].to(task.device)
            steps.append(self.learner.step(batch, draws.to(task.device)))
        return EpochLosses.mean(steps, len(kept), task.world)

    def close_phase(self, index: int) -> None:
        """Of the sites: fit the density of codes; fill in what the autoencoder says of every image. Of a head: have it
        judge what it has not seen; of the second, settle whether a head joins."""
        if self.structure is not None and index > 0:
            self.structure.close(index, self.refinement)
            return
        self._fit_prior()
        own, _ = self.criteria_and_codes()
        self.refinement.criteria[:, :SITE_DISTANCE] = own[:, :SITE_DISTANCE]
        believed = ~self.refinement.candidates
        distances = self.refinement.criteria[believed, SITE_DISTANCE], own[believed, SITE_DISTANCE]
        self.refinement.swell = float(np.median(distances[0] / np.maximum(distances[1], LEAST_DISTANCE)))

    def state(self) -> State:
        """Network, statistics and adversary, and what was found so far."""
        arrays = {name: array.copy() for name, array in self.refinement.to_arrays().items()}
        return State(snapshot_learner(self.learner), arrays)

    def restore(self, state: State, index: int, *, closed: bool) -> None:
        """Go on within the phase, or after it."""
        restore_learner(self.learner, state.tensors)
        self.refinement = OutlyingRefinement.from_arrays(state.refinement, self.task.settings.robust)
        if self.structure is not None:
            self.structure.keep_together(self._groups)
        self.maps.forget()
        if closed or index > 0:
            self._fit_prior()

    def calibration_criteria(self) -> NDArray[np.float32]:
        """(N, K) criteria; the distances of every image from what was fitted without its group.

        The autoencoder's two columns are those of the network that has seen the image: the fused score leaves them out.
        """
        return self.refinement.criteria[:, : len(self.autoencoder.own_criteria)].copy()

    def held_out(self) -> HeldOut | None:
        """Distances of copies with a defect from what was fitted without their original; nothing here trains on
        defects. None for a run whose checkpoint is from before they were kept.

        Their first two columns are 0: the fused score leaves them out.
        """
        refinement = self.refinement
        if not len(refinement.synthetic):
            return None
        synthetic = refinement.synthetic[:, : len(self.autoencoder.own_criteria)].copy()
        choice = None if self.structure is None else self.structure.choice(refinement)
        return HeldOut(
            fold=refinement.fold,
            synthetic=synthetic,
            owners=refinement.owners.copy(),
            choice=choice,
            n_groups=len(np.unique(refinement.groups)) or None,
            change=refinement.change,
            in_stretches=refinement.in_stretches,
            peaks=self._held_out_peaks() if len(refinement.peaks) else None,
        )

    def _held_out_peaks(self) -> NDArray[np.floating]:
        """Of the maps of believed images, (m,). Where a head takes part, those of the network as it is, whose distances
        are as much larger as the images' are from what was fitted without them: the head has no image's place in it."""
        network, refinement = self.autoencoder, self.refinement
        believed = ~refinement.candidates
        if not network.has_joined:
            return refinement.peaks[believed]
        task = self.task
        peaks = map_peaks(network, self.prior, task.images, task.world).astype(np.float64).clip(LEAST_DISTANCE)
        added = np.log(np.expm1(peaks)) + sum(network.fusion.values[DISTANCES]) * math.log(refinement.swell)
        return np.logaddexp(0.0, added)

    def terms(self) -> dict[str, Term]:
        """The fused score."""
        return self.autoencoder.terms(self.prior)

    def criteria_and_codes(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Criteria (N, K) under the network as it is, and mean codes (N, D)."""
        network, task = self.autoencoder, self.task
        criteria, codes = [], []
        with torch.inference_mode():
            for chunk in image_chunks(task.images, CHUNK, task.world.rank, task.world.size):
                measured = network.measure(chunk.float() / 255.0, self.prior)
                criteria.append(measured.criteria.cpu().numpy())
                codes.append(measured.latent.mean(dim=(2, 3)).cpu().numpy())
        return np.concatenate(criteria), np.concatenate(codes)

    def _fit_reduction(self, features: Tensor) -> None:
        reduction = self.autoencoder.encoder.statistics
        projection, mean = fit_reduction(features, self.autoencoder.encoder.dimensions, self.task.settings.seed)
        reduction.projection.copy_(projection[:, :, None, None])
        reduction.site_mean.copy_(reduction.project(mean[None].to(reduction.projection.device))[0])

    def _fit_statistics(self, features: Tensor, believed: NDArray[np.bool_]) -> None:
        """Distributions and prototypes of the believed images; held-out criteria of all; the fused score's weights."""
        settings, network = self.task.settings, self.autoencoder
        reduced = self.maps.sites
        sums = SiteSums(reduced, believed)
        mean, factor = sums.factors()
        reduction = network.encoder.statistics
        grid = reduction.site_mean.shape
        reduction.site_mean.add_(mean.T.reshape(grid).float().to(reduction.site_mean.device))
        network.statistics.whitening.copy_(rounded(factor))
        site_mean = reduction.site_mean.cpu().flatten(1).T  # (S, d)
        center = site_mean.mean(dim=0)
        projected = reduced - mean.float() + site_mean - center
        generator = torch.Generator().manual_seed(settings.seed)
        points = farthest_points(projected[torch.from_numpy(believed)].flatten(0, 1), PROTOTYPES, generator)
        network.statistics.prototypes.copy_(points)
        network.statistics.center.copy_(center)
        copies, owners = (
            defective_of(self.task, believed) if self.structure is None else self.structure.copies(believed)
        )
        other = self.maps.features_of(torch.from_numpy(copies).permute(0, 3, 1, 2))
        groups, folds, few_folds = self._folds(sums)
        if len(np.unique(self._groups)) <= FEW_GROUPS:
            few = partial(refitted, dimensions=network.encoder.dimensions, seed=settings.seed)
            site, site_defect = few(features, believed, few_folds, other, owners, judge=distances_from, by_site=True)
            neighbour, neighbour_defect = few(
                features, believed, folds, other, owners, judge=partial(self._nearest, generator), by_site=False
            )
        else:
            reduced_other = self.maps.sites_of(other)
            site, site_defect = sums.held_out(groups, reduced_other, owners)
            shift = site_mean - mean.float() - center
            neighbour, neighbour_defect = held_out_neighbours(
                projected, believed, folds, PROTOTYPES, generator, reduced_other + shift, owners
            )
        site, site_defect = self._evened(SITE_DISTANCE, site, site_defect, believed)
        neighbour, neighbour_defect = self._evened(NEIGHBOUR_DISTANCE, neighbour, neighbour_defect, believed)
        self.refinement.criteria[:, SITE_DISTANCE] = top_mean(site)
        self.refinement.peaks = site.max(axis=1)
        self.refinement.criteria[:, NEIGHBOUR_DISTANCE] = top_mean(neighbour)
        normal = self.refinement.criteria[:, DISTANCES]
        defective = np.stack((top_mean(site_defect), top_mean(neighbour_defect)), axis=1)
        self.refinement.keep_synthetic(defective, owners, first=SITE_DISTANCE)
        weights = fusion_weights(normal[believed], defective)
        n_after = len(network.fusion.values) - DISTANCES.stop
        network.fusion.take(torch.from_numpy(np.pad(weights, (DISTANCES.start, n_after))))

    def _evened(
        self,
        criterion: int,
        held_out: NDArray[np.floating],
        of_copies: NDArray[np.floating],
        believed: NDArray[np.bool_],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Distances (N, S) of images and (M, S) of copies, evened as the network will from now on."""
        by = evening(held_out[believed])
        self.autoencoder.statistics.even(criterion - SITE_DISTANCE, by)
        return by.of(held_out), by.of(of_copies)

    def _folds(self, sums: SiteSums) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(N,) which images are left out together: for the sites, the prototypes, and where few images are fitted anew.

        Stretches of the images' order, for all three, where they change along it.
        """
        groups = at_most(self._groups, MOST_GROUPS)
        refinement = self.refinement
        if self.task.ordered and len(np.unique(self._groups)) >= LEAST_GROUPS:
            refinement.change = change_along(sums, self._groups)
            refinement.in_stretches = refinement.change >= LEAST_CHANGE
        if not refinement.in_stretches:
            return groups, at_most(groups, NEIGHBOUR_FOLDS), at_most(groups, FEW_FOLDS)
        stretches = stretches_of(self._groups)
        refinement.fold = stretches.astype(np.int32)
        logger.info("%s", order_line({"order": {"in_stretches": True}, "folds": {"n": int(stretches.max()) + 1}}))
        return stretches, stretches, stretches

    @property
    def _groups(self) -> NDArray[np.int64]:
        """(N,) numbers, equal for images that are left out together."""
        return self.refinement.groups if len(self.refinement.groups) else self.task.groups

    def _keep_together(self) -> None:
        """Put images into groups where nobody has said which belong together."""
        if not self.task.ordered:
            return
        groups = alike_groups(self.maps.reduced, self.task.groups)
        robust, seed = self.task.settings.robust, self.task.settings.seed
        self.refinement.groups, self.refinement.fold = groups, drawn_folds(groups, robust.folds, seed)
        if self.structure is not None:
            self.structure.keep_together(groups)

    def _screen(self, believed: NDArray[np.bool_]) -> None:
        """Score every image by distributions of believed images outside its group."""
        folds = at_most(self._groups, SCREENING_FOLDS)
        held_out, _ = SiteSums(self.maps.sites, believed).held_out(folds)
        scores = np.log(top_mean(evening(held_out[believed]).of(held_out)))
        middle = np.median(scores)
        spread = max(float(middle - np.quantile(scores, LOWER_QUANTILE)), 1e-9)
        self.refinement.screening[:] = (scores - middle) / spread

    @staticmethod
    def _nearest(generator: torch.Generator, rows: Tensor, usual: Tensor) -> NDArray[np.float32]:
        """Distances (n, S) of rows to prototypes of what is usual."""
        points = farthest_points(usual.flatten(0, 1), PROTOTYPES, generator)
        distances: NDArray[np.float32] = neighbour_distances(rows, points).numpy()
        return distances

    @torch.inference_mode()
    def _fit_prior(self) -> None:
        """The density of the kept images' codes, a normal distribution at every site."""
        kept = torch.from_numpy(np.flatnonzero(~self.refinement.candidates))
        device = self.task.device
        codes = torch.cat(
            [self.autoencoder.encoder.to_code(part.to(device)).cpu() for part in self.maps.reduced[kept].split(64)]
        )
        _, dimensions, height, width = codes.shape
        sites = codes.flatten(2).transpose(1, 2)
        mean, factor = SiteSums(sites, np.ones(len(sites), dtype=np.bool_)).factors()
        whitening = inverse_of(factor).float().numpy()
        self.prior = SiteNormal(mean.T.reshape(dimensions, height, width).float().numpy(), whitening)
