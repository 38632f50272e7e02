"""Images that physics makes of the light, for many bodies at once: what the hybrid network begins with.

For bodies of one outline and fiber layout, the derivatives of the light depend on the uniform absorption of each
wavelength alone (scattering is assumed). They are computed once for a few absorptions and interpolated, which turns a
reconstruction of a second into one of tens of milliseconds. The same code, with the derivatives of one absorption,
serves a measured body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from BreastBiomarkersLib.errors import InputError
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, sparse
from scipy.spatial import cKDTree
from torch import Tensor

from NIRSTReconstructionLib.forward import ForwardModel
from NIRSTReconstructionLib.network_settings import PhysicsSettings
from NIRSTReconstructionLib.phantoms import REFERENCE_TISSUE
from NIRSTReconstructionLib.point_light import derived
from NIRSTReconstructionLib.spectra import Tissue
from NIRSTReconstructionLib.torch_forward import TorchForward

MAX_REGIONS = 4
LOWEST_TISSUE, HIGHEST_TISSUE = Tissue(4.0, 2.0, 0.05), Tissue(60.0, 40.0, 0.95)
"""Uniform tissues between which a bulk is looked for."""

_FIT_KNOTS, _FIT_KNOTS_NEAR = 15, 6
_NEAR = 0.5  # half the range of ln absorption around a tissue that is known to be near
_FIT_ROUNDS = 12
_BACKGROUND_ROUNDS = 3
_REGION_ROUNDS = 8
_STILL = 0.1  # steps of the regions' values are done once they are this share of a standard deviation
_LEAST_SHARE, _MOST_SHARE = -0.9, 9.0  # a region's value, relative to the bulk less one
_MOST_NEPERS = 30.0  # light that falls further from fiber to fiber is lost in rounding
_LESION_ABOVE = 4.0  # robust standard deviations of the smoothed MRI
_SMALLEST_REGION_MM2 = 30.0
_SHARP_ENOUGH = 3.0  # noise standard deviations between edge and background


class StepImages(NamedTuple):
    """What physics finds, as shares of the bulk: 0 is the bulk value, 1 twice the bulk.

    Attributes
    ----------
    bulk : (n, 3) Tensor
        HbO, HbR in uM, water fraction around the MRI's regions.
    light : (n, 3, Y, X) Tensor
        From the light alone, one step.
    light_sd : (n, 3, Y, X) Tensor
        Posterior standard deviation of it.
    regions : (n, 3, Y, X) Tensor
        One value per region of the MRI, fitted until nothing changes.
    guided : (n, 3, Y, X) Tensor
        The regions and what a smooth field beside them adds, as far as the light asks for one.
    doubt : (n,) Tensor
        Probability that the regions alone do not explain the light, 0 to 1.
    """

    bulk: Tensor
    light: Tensor
    light_sd: Tensor
    regions: Tensor
    guided: Tensor
    doubt: Tensor


class OneStep:
    """Images of bodies of one outline, optode layout and spectral table.

    Parameters
    ----------
    model : ForwardModel
        Continuous wave.
    pixels_mm : (Y, X, 2) ndarray
        Pixel centers in plane coordinates, evenly spaced.
    body : (Y, X) ndarray of bool
        Which pixels lie in the body.
    settings : PhysicsSettings
    scatter : Tissue
        Whose scattering is assumed.
    device : torch.device
    near : Tissue, optional
        What the bulk is nearly: light of uniform bodies is then computed around it only, in a third of the time.

    Notes
    -----
    Unknowns are, per chromophore and relative to the bulk value c, blobs on a hexagonal lattice, one uniform value,
    and one value per MRI region: image = c (1 + blobs @ u + uniform + regions @ p), each normally distributed
    (`PhysicsSettings`), chromophores correlated by K = (1 - r) I + r. With data y, W = 1 / noise, B the columns by
    which unknown fiber gains act, and P = I - W B (W B)^+, one linear step from an image F(x) is::

        u = H^-1 J' W P W (y - F(x)),   H = J' W P W J + K^-1 (x) S^-2,   J = c_c e_c (dF / dmua) @ columns

    The gains of fibers never enter. The light's own image is the step from the bulk with the blobs alone, the linear
    minimum-mean-square-error estimate. The regions' values are fitted first, to the nonlinear model (Broyden's method,
    from the derivatives of the uniform body). Steps from there with fields of several strengths s follow, and one
    without a field; the logarithm of their marginal likelihood is, up to a constant,
    (u' H u + ln |K^-1 (x) S^-2| - ln |H|) / 2. `guided` is their mean, each with its probability; that of the regions
    alone is exp(`needed_evidence`) times as high before the light is seen.
    """

    def __init__(
        self,
        model: ForwardModel,
        pixels_mm: NDArray[np.float64],
        body: NDArray[np.bool_],
        settings: PhysicsSettings | None = None,
        scatter: Tissue = REFERENCE_TISSUE,
        device: torch.device | None = None,
        near: Tissue | None = None,
    ) -> None:
        if model.modulation_mhz:
            raise InputError("The network reads continuous-wave amplitudes. Leave the modulation at 0.")
        if len(model.spectra.wavelengths_nm) < 3:
            raise InputError(
                "The network's physics finds HbO, HbR and water, for which at least three wavelengths are needed."
            )
        settings = settings or PhysicsSettings()
        self.model = model
        self.settings = settings
        self.body = body
        self._scatter = scatter
        self._musp = model.spectra.musp(scatter.maps(1))[:, 0]
        self._device = device or torch.device("cpu")
        self._pixel_mm = float(pixels_mm[0, 1, 0] - pixels_mm[0, 0, 0])
        extinction = model.spectra.extinction[:, :3]
        low, high = (np.log(extinction @ tissue.values()[:3]) for tissue in (LOWEST_TISSUE, HIGHEST_TISSUE))
        darkest = (_MOST_NEPERS / model.optodes.distances.max()) ** 2 / (3 * self._musp)
        self._log_range = low, np.maximum(np.minimum(high, np.log(darkest)), low + 0.1)
        knots = _FIT_KNOTS
        if near is not None:
            middle = np.clip(np.log(extinction @ near.values()[:3]), *self._log_range)
            self._log_range, knots = (middle - _NEAR, middle + _NEAR), _FIT_KNOTS_NEAR
        self._fit_table = self._tensor(self._light_table(np.linspace(*self._log_range, knots)))  # (K, W, C)
        self._extinction = self._tensor(extinction)

        points = model.mesh.quadrature.points
        self._cells, self._cell_of_point = _cells(points, settings.cell_mm)
        lattice = _lattice(model.mesh.nodes, settings.lattice_mm)
        self._blobs_at_pixels = self._tensor(_blobs(pixels_mm[body], lattice, settings.blob_mm))
        # a weight of one varies the image by this much: images, not weights, have the wanted deviation
        inner = _blobs(lattice[model.mesh.contains(lattice)], lattice, settings.blob_mm)
        self._blob_size = float(np.sqrt(np.square(inner).sum(axis=1).mean()))
        uniform = np.ones((len(self._cells), 1))
        self._columns = self._tensor(np.hstack([_blobs(self._cells, lattice, settings.blob_mm), uniform]))
        # a cell belongs to a region as far as its integration points do, each going with its nearest pixel
        pixel_of_point = cKDTree(pixels_mm[body]).query(points)[1]
        share = sparse.csr_array(
            (model.mesh.quadrature.weights, (self._cell_of_point, pixel_of_point)), (len(self._cells), int(body.sum()))
        ).toarray()
        self._pixels_to_cells = self._tensor(share / share.sum(axis=1, keepdims=True)).float()
        self._pixel_of_point = torch.as_tensor(pixel_of_point, device=self._device)
        self._on_gpu = TorchForward(model) if self._device.type == "cuda" else None
        self._tabulated = False
        self._knots = self._cell_table = self._column_table = torch.zeros(0)
        source, detector = model.optodes.channels.T
        gains = np.zeros((len(source), len(model.optodes.sources) + len(model.optodes.detectors)))
        gains[np.arange(len(source)), source] = 1
        gains[np.arange(len(source)), len(model.optodes.sources) + detector] = 1
        self._gain_columns = self._tensor(gains)

    def tabulate(self, lowest: Tissue, highest: Tissue, knots: int = 8) -> OneStep:
        """Compute the derivatives for a number of uniform tissues between two, so that many bodies can be given.

        Bodies whose bulk lies beyond get the derivatives of the extreme ones.
        """
        low, high = (np.log(tissue.values()[:3]) for tissue in (lowest, highest))
        self._set_knots(np.exp(np.linspace(low, high, knots)))
        self._tabulated = True
        return self

    def images(self, log_amplitude: Tensor, active: Tensor, noise: Tensor, mri: Tensor) -> StepImages:
        """Return the images of n bodies.

        Parameters
        ----------
        log_amplitude : (n, W, C) Tensor
            As an ideal instrument would measure, up to one factor per fiber and wavelength.
        active : (n, W, C) Tensor of bool
        noise : (n, W, C) Tensor
            Standard deviation of the log amplitudes.
        mri : (n, Y, X) Tensor
            Gray values.
        """
        whiten = self._whitening(active, noise)
        y = torch.where(active, log_amplitude, 0.0).to(self._device, torch.float64)
        bulk = self.fit_bulk(y, whiten)
        regions = self._regions(mri)  # (n, R, pixels of the body)
        if not self._tabulated:
            if len(y) > 1:
                raise InputError("Tabulate the derivatives before giving several bodies.")
            self._set_knots(bulk.cpu().numpy())
            bulk = self._background(y, bulk, whiten, self._region_derivatives(regions))
            self._set_knots(bulk.cpu().numpy())
        of_regions = self._region_derivatives(regions)
        bulk = self._background(y, bulk, whiten, of_regions)
        log_mua = torch.log(bulk @ self._extinction.T)
        D = whiten(self._derivatives(log_mua, of_regions))  # (n, W, C, B + 1 + R)
        effect = self._extinction * bulk[:, None]  # (n, W, 3): d mua / d relative chromophore
        pairs = (effect[..., None] * effect[..., None, :]).flatten(2).mT  # (n, 9, W)
        H = (pairs @ (D.mT @ D).flatten(2)).reshape(len(y), 3, 3, D.shape[3], D.shape[3]).transpose(2, 3)
        blobs = self._columns.shape[1]

        def seen_through(residual: Tensor) -> Tensor:
            return effect.mT @ (D.mT @ residual[..., None])[..., 0]

        light_H = H[:, :, :blobs, :, :blobs].flatten(3).flatten(1, 2) + self._precision(self.settings.light_sd, blobs)
        factor = torch.linalg.cholesky(light_H)
        from_bulk = seen_through(whiten(y - self._light(log_mua)[0]))
        light = self._solve(factor, from_bulk[:, :, :blobs])
        light_sd = self._deviation(factor, blobs)

        around, values, residual = self._region_values(y, bulk, whiten, of_regions, regions)
        change = around / bulk - 1  # the fit's own background beside the one that everything is relative to
        base = change[..., None] + (around / bulk)[..., None] * (values @ regions.to(values))
        added, doubt = self._field(H, seen_through(residual), regions)
        return StepImages(
            bulk.float(),
            self._at_pixels(light, regions[:, :0]),
            light_sd,
            self._image(base),
            self._image(base + added),
            doubt.float(),
        )

    def imputed(self, log_amplitude: Tensor, active: Tensor, noise: Tensor) -> Tensor:
        """Return light (n, W, C) with what is not active replaced by that of the fitted bulk tissue."""
        if bool(active.all()):
            return log_amplitude
        known = torch.where(active, log_amplitude, 0.0).to(self._device, torch.float64)
        bulk = self.fit_bulk(known, self._whitening(active, noise))
        modeled = self._light(torch.log(bulk @ self._extinction.T))[0]
        return torch.where(active, log_amplitude, modeled.to(log_amplitude))

    def fit_bulk(self, log_amplitude: Tensor, whiten: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the uniform tissue (n, 3: HbO, HbR in uM, water fraction) that fits light (n, W, C) best.

        Gauss-Newton on the logarithms from the middle of the range, within the range. `whiten` scales by the noise and
        removes what fiber gains could explain.
        """
        low, high = (self._tensor(np.log(tissue.values()[:3])) for tissue in (LOWEST_TISSUE, HIGHEST_TISSUE))
        x = self._tensor(np.log(REFERENCE_TISSUE.values()[:3])).repeat(len(log_amplitude), 1)
        for _ in range(_FIT_ROUNDS):
            mua = torch.exp(x) @ self._extinction.T
            light, slope = self._light(torch.log(mua))
            share = self._extinction * torch.exp(x)[:, None] / mua[..., None]  # d ln mua / d x, (n, W, 3)
            J = whiten(slope[..., None] * share[:, :, None]).flatten(1, 2)
            r = whiten(log_amplitude - light).flatten(1)
            H = J.mT @ J + 1e-6 * torch.eye(3, dtype=J.dtype, device=J.device)
            step = torch.linalg.solve(H, (J.mT @ r[..., None]))[..., 0]
            x = torch.clamp(x + step.clamp(-0.5, 0.5), low, high)
        return torch.exp(x)

    def _whitening(self, active: Tensor, noise: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function that divides (n, W, C[, B]) by the noise and removes what fiber gains can explain."""
        weight = torch.where(active, 1 / noise, 0.0).to(self._device, torch.float64)
        A = weight[..., None] * self._gain_columns
        gram = A.mT @ A
        values, vectors = torch.linalg.eigh(gram)
        kept = values > 1e-9 * values[..., -1:]
        Q = A @ (vectors * torch.where(kept, values.clamp(min=1e-300).rsqrt(), 0.0)[..., None, :])

        def whiten(values: Tensor) -> Tensor:
            columns = values if values.ndim == 4 else values[..., None]
            scaled = weight[..., None] * columns.to(torch.float64)
            clean = scaled - Q @ (Q.mT @ scaled)
            return clean if values.ndim == 4 else clean[..., 0]

        return whiten

    def _precision(self, image_sd: float, count: int) -> Tensor:
        """Return the inverse prior covariance (3 count, 3 count) of blobs, one uniform value, and regions."""
        settings, blobs = self.settings, self._columns.shape[1] - 1
        sd = torch.full((count,), image_sd / self._blob_size, dtype=torch.float64, device=self._device)
        sd[blobs] = settings.uniform_sd
        sd[blobs + 1 :] = settings.region_sd
        K = settings.correlation + (1 - settings.correlation) * torch.eye(3, dtype=sd.dtype, device=self._device)
        return torch.kron(torch.linalg.inv(K).contiguous(), torch.diag(sd**-2))

    def _field(self, H: Tensor, right: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Return what fields add to the regions at the body's pixels (n, 3, P), and the doubt (n,).

        Parameters
        ----------
        H : (n, 3, B + 1 + R, 3, B + 1 + R) Tensor
            Without the priors.
        right : (n, 3, B + 1 + R) Tensor
        """
        blobs, count = self._columns.shape[1] - 1, right.shape[-1]
        found, evidence = [], []
        for sd in (0.0, *self.settings.field_sds):
            used = slice(0 if sd else blobs, count)  # no field, no blobs
            prior = self._precision(sd or 1.0, count)
            prior = prior.reshape(3, count, 3, count)[:, used, :, used].flatten(2).flatten(0, 1)
            factor = torch.linalg.cholesky(H[:, :, used, :, used].flatten(3).flatten(1, 2) + prior)
            u = self._solve(factor, right[:, :, used])
            gained = (u * right[:, :, used]).sum(dim=(1, 2))
            spread = torch.linalg.slogdet(prior)[1] - 2 * factor.diagonal(dim1=1, dim2=2).log().sum(dim=1)
            evidence.append(0.5 * (gained + spread))
            found.append(torch.cat([torch.zeros_like(right[:, :, : used.start]), u], dim=2))
        logs = torch.stack(evidence, dim=1)
        logs[:, 0] += self.settings.needed_evidence + np.log(len(self.settings.field_sds))
        share = torch.softmax(logs, dim=1)
        mean = torch.einsum("nk,knib->nib", share, torch.stack(found))
        return self._pixel_values(mean, regions), 1 - share[:, 0]

    def _solve(self, factor: Tensor, right: Tensor) -> Tensor:
        solution = torch.cholesky_solve(right.flatten(1)[..., None], factor)
        return solution.reshape(right.shape)

    def _deviation(self, factor: Tensor, count: int) -> Tensor:
        """Return the posterior standard deviation (n, 3, Y, X)."""
        covariance = torch.cholesky_inverse(factor)
        ones = torch.ones_like(self._blobs_at_pixels[:, :1])
        columns = torch.cat([self._blobs_at_pixels, ones], dim=1).float()
        result = []
        for c in range(3):
            own = slice(c * count, (c + 1) * count)
            variance = ((columns @ covariance[:, own, own].float()) * columns).sum(dim=-1)
            result.append(variance.clamp(min=0).sqrt())
        return self._image(torch.stack(result, dim=1))

    def _at_pixels(self, unknowns: Tensor, regions: Tensor) -> Tensor:
        """Return images (n, 3, Y, X) of unknowns (n, 3, B + 1 + R)."""
        return self._image(self._pixel_values(unknowns, regions))

    def _pixel_values(self, unknowns: Tensor, regions: Tensor) -> Tensor:
        """Return the values (n, 3, P) of unknowns (n, 3, B + 1 + R) at the body's pixels."""
        blobs = self._blobs_at_pixels.shape[1]
        values = unknowns[..., :blobs] @ self._blobs_at_pixels.T + unknowns[..., blobs : blobs + 1]
        return values + unknowns[..., blobs + 1 :] @ regions.to(values.dtype)

    def _image(self, values: Tensor) -> Tensor:
        """Return values at the body's pixels (..., P) as images (..., Y, X), 0 outside."""
        image = torch.zeros((*values.shape[:-1], *self.body.shape), dtype=torch.float32, device=values.device)
        image[..., torch.as_tensor(self.body, device=values.device)] = values.float()
        return image

    def _regions(self, mri: Tensor) -> Tensor:
        """Return the MRI's regions (n, R, pixels of the body) as 0 and 1; those that a body does not have are 0."""
        found = [mri_regions(image, self.body, self._pixel_mm)[:, self.body] for image in mri.cpu().numpy()]
        used = max(1, max(int(regions.any(axis=1).sum()) for regions in found))
        return torch.as_tensor(np.stack(found)[:, :used], dtype=torch.float32, device=self._device)

    def _background(self, y: Tensor, bulk: Tensor, whiten: Callable[[Tensor], Tensor], of_regions: Tensor) -> Tensor:
        """Return the tissue (n, 3) around the MRI's regions: a few steps in uniform values and those of the regions.

        A lesion draws the homogeneous fit toward itself; here the regions take their share of the light. Where the MRI
        shows none, or regions that are like the rest, nothing changes.
        """
        low, high = (self._tensor(tissue.values()[:3]) for tissue in (LOWEST_TISSUE, HIGHEST_TISSUE))
        for _ in range(_BACKGROUND_ROUNDS):
            log_mua = torch.log(bulk @ self._extinction.T)
            D = whiten(self._derivatives(log_mua, of_regions, only=slice(-1, None)))  # uniform and regions
            J = D[:, :, :, None] * (self._extinction * bulk[:, None])[:, :, None, :, None]  # (n, W, C, 3, 1 + R)
            J = J.flatten(1, 2).flatten(2)
            r = whiten(y - self._light(log_mua)[0]).flatten(1)
            sd = self._tensor(np.array([1.0] + [self.settings.region_sd] * of_regions.shape[-1])).repeat(3)
            H = J.mT @ J + torch.diag(sd**-2)
            step = torch.linalg.solve(H, J.mT @ r[..., None]).reshape(len(y), 3, -1)[:, :, 0]
            bulk = torch.clamp(bulk * torch.exp(step.clamp(-0.3, 0.3)), low, high)
        return bulk

    def _region_values(
        self, y: Tensor, bulk: Tensor, whiten: Callable[[Tensor], Tensor], of_regions: Tensor, regions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return background (n, 3), regions' values (n, 3, R: relative to it, less one) and residual, all fitted.

        Gauss-Newton on the nonlinear model; the derivatives of the uniform body are corrected after each step by what
        the light has really changed (Broyden 1965, doi 10.1090/S0025-5718-1965-0198670-6).
        """
        low, high = (self._tensor(tissue.values()[:3]) for tissue in (LOWEST_TISSUE, HIGHEST_TISSUE))
        columns = whiten(self._derivatives(torch.log(bulk @ self._extinction.T), of_regions, only=slice(-1, None)))
        J = columns[:, :, :, None] * (self._extinction * bulk[:, None])[:, :, None, :, None]  # (n, W, C, 3, 1 + R)
        J = J.flatten(1, 2).flatten(2)
        sd = self._tensor(np.array([1.0] + [self.settings.region_sd] * regions.shape[1])).repeat(3)
        around, shares = bulk, torch.zeros((*bulk.shape, regions.shape[1]), dtype=bulk.dtype, device=bulk.device)
        residual = whiten(y - self._modeled(around, shares, regions)).flatten(1)
        # unknowns are changes of the background and of the regions beside it, as shares of the bulk
        now = torch.zeros((*bulk.shape, 1 + regions.shape[1]), dtype=bulk.dtype, device=bulk.device)
        for _ in range(_REGION_ROUNDS):
            H = J.mT @ J + torch.diag(sd**-2)
            right = (J.mT @ residual[..., None])[..., 0] - now.flatten(1) / sd**2
            step = torch.linalg.solve(H, right).reshape(now.shape)
            moved = around + bulk * step[:, :, 0]
            moved = torch.clamp(moved, torch.maximum(low, 0.5 * around), torch.minimum(high, 2 * around))
            others = now[:, :, 1:] + step[:, :, 1:]
            shares = torch.clamp(others * (bulk / moved)[..., None], _LEAST_SHARE, _MOST_SHARE)
            around = moved
            after = torch.cat([(around / bulk - 1)[..., None], shares * (around / bulk)[..., None]], dim=2)
            taken = (after - now).flatten(1)
            new = whiten(y - self._modeled(around, shares, regions)).flatten(1)
            off = residual - new - (J @ taken[..., None])[..., 0]
            J = J + off[..., None] * taken[:, None] / taken.square().sum(dim=1).clamp(min=1e-12)[:, None, None]
            residual, now = new, after
            if float((taken[:, None] @ H @ taken[..., None]).max()) < _STILL**2:
                break
        return around, shares, residual.reshape(y.shape)

    def _modeled(self, around: Tensor, shares: Tensor, regions: Tensor) -> Tensor:
        """Return the light (n, W, C) of backgrounds (n, 3) with regions in them."""
        at_points = regions[:, :, self._pixel_of_point].to(shares)
        values = around[..., None] * (1 + shares @ at_points)
        maps = self._tensor(self._scatter.maps(len(self._pixel_of_point))).repeat(len(around), 1, 1)
        maps[:, :3], maps[:, 3] = values, 0.0
        if self._on_gpu is not None:
            return self._on_gpu.measure_many(maps)
        return self._tensor(self.model.measure_many(maps.cpu().numpy(), at_quadrature=True))

    def _region_derivatives(self, regions: Tensor) -> Tensor:
        """Return d light / d mua of regions (n, R, pixels) at all knots, (n, K, W, C, R)."""
        in_cells = torch.einsum("nrp,qp->qnr", regions, self._pixels_to_cells)
        return torch.einsum("kwcq,qnr->nkwcr", self._cell_table, in_cells)

    def _derivatives(self, log_mua: Tensor, of_regions: Tensor, only: slice = slice(None)) -> Tensor:
        """Return d light / d mua of the columns (some or all: B + 1) and of the regions, (n, W, C, B + 1 + R).

        They are interpolated between the knots.
        """
        wavelengths = torch.arange(log_mua.shape[1], device=self._device)
        cases = torch.arange(len(log_mua), device=self._device)[:, None]
        last = len(self._knots) - 1  # of (K, W) absorptions, ascending
        above = (log_mua[:, None] >= self._knots).sum(dim=1).clamp(min(1, last), last)
        below = (above - 1).clamp(min=0)
        gap = (self._knots[above, wavelengths] - self._knots[below, wavelengths]).clamp(min=1e-9)
        share = ((log_mua - self._knots[below, wavelengths]) / gap).clamp(0, 1)
        total = torch.zeros((), dtype=torch.float64, device=self._device)
        for knot, weight in ((below, 1 - share), (above, share)):
            own = self._column_table[knot, wavelengths][..., only]
            columns = torch.cat([own, of_regions[cases, knot, wavelengths]], dim=-1)
            total = total + columns.to(torch.float64) * weight[..., None, None]
        return total

    def _light(self, log_mua: Tensor) -> tuple[Tensor, Tensor]:
        """Return ln amplitude (n, W, C) of uniform absorption (n, W), and its slope: cubic between the knots."""
        low, high = (self._tensor(limit) for limit in self._log_range)
        knots = len(self._fit_table)
        gap = (high - low) / (knots - 1)
        position = ((log_mua - low) / gap).clamp(0, knots - 1)
        first = (position.floor().long() - 1).clamp(0, knots - 4)
        t = position - first
        wavelengths = torch.arange(log_mua.shape[1], device=self._device)
        light = slope = torch.zeros((), dtype=torch.float64, device=self._device)
        for k, (value, change) in enumerate(_cubic_weights(t)):
            row = self._fit_table[first + k, wavelengths]
            light = light + value[..., None] * row
            slope = slope + (change / gap)[..., None] * row
        return light, slope

    def _light_table(self, log_mua: NDArray[np.float64]) -> NDArray[np.float64]:
        ones = np.ones(len(self.model.mesh.quadrature.weights))
        musp = self._musp[:, None] * ones
        rows = [self.model.measure_optical(np.exp(row)[:, None] * ones, musp, at_quadrature=True) for row in log_mua]
        return np.stack(rows)

    def _set_knots(self, tissues: NDArray[np.float64]) -> None:
        """Compute the derivatives with respect to absorption in the cells, for uniform tissues (K, 3), ascending."""
        count = len(self._cell_of_point)
        basis = sparse.csr_array((np.ones(count), (np.arange(count), self._cell_of_point)), (count, len(self._cells)))
        extinction = self.model.spectra.extinction[:, :1]  # of HbO, by whose derivatives those of mua are found
        table = np.empty((len(tissues), *self._fit_table.shape[1:], len(self._cells)), dtype=np.float32)
        for k, (hbo, hbr, water) in enumerate(tissues):
            tissue = replace(self._scatter, hbo=float(hbo), hbr=float(hbr), water=float(water), lipid=0.0)
            J = derived(self.model).measure_with_jacobian(tissue.maps(count), basis, ("hbo",), at_quadrature=True)[1]
            table[k] = J[:, :, 0] / extinction[:, :, None]
        self._knots = self._tensor(np.log(tissues @ self.model.spectra.extinction[:, :3].T))
        self._cell_table = torch.as_tensor(table, device=self._device)
        self._column_table = self._cell_table @ self._columns.float()

    def _tensor(self, array: ArrayLike) -> Tensor:
        return torch.as_tensor(np.asarray(array, dtype=np.float64), device=self._device)


def mri_regions(image: NDArray[np.float64], body: NDArray[np.bool_], pixel_mm: float) -> NDArray[np.bool_]:
    """Return up to four regions (4, Y, X) of an MR image that stand out from the rest of the body.

    The image is smoothed by 1.2 mm and measured in robust standard deviations from its median; where it reaches more
    than four, upward or downward, connected areas above half its peak are regions, the largest four of at least 30
    mm^2. Their edges are then drawn pixel by pixel, halfway between the median and their own brightness, where the
    noise of single pixels allows. No region: all False.

    Parameters
    ----------
    image : (Y, X) ndarray
        Gray values.
    body : (Y, X) ndarray of bool
    pixel_mm : float
    """
    result = np.zeros((MAX_REGIONS, *body.shape), dtype=bool)
    filled = np.where(body, image - np.median(image[body]), 0.0)
    smooth = ndimage.gaussian_filter(filled, 1.2 / pixel_mm)
    spread = 1.4826 * np.median(np.abs(smooth[body] - np.median(smooth[body])))
    if not spread > 1e-9 * max(abs(float(np.median(image[body]))), 1e-9):
        spread = np.abs(smooth[body]).max() / (2 * _LESION_ABOVE)  # piecewise constant: all that differs stands out
    if spread == 0:
        return result
    sign = 1 if smooth[body].max() >= -smooth[body].min() else -1
    filled, smooth = sign * filled, sign * smooth
    peak = smooth[body].max()
    if peak < _LESION_ABOVE * spread:
        return result
    numbers, count = ndimage.label(body & (smooth > peak / 2))
    areas = np.bincount(numbers.ravel(), minlength=count + 1)[1:] * pixel_mm**2
    largest = [k for k in np.argsort(-areas, kind="stable") if areas[k] >= _SMALLEST_REGION_MM2][:MAX_REGIONS]
    noise = 1.4826 * np.median(np.abs((filled - smooth)[body]))
    for n, k in enumerate(largest):
        core = numbers == k + 1
        edge = np.median(filled[ndimage.binary_erosion(core) if core.sum() > 30 else core]) / 2
        near = ndimage.binary_dilation(core, iterations=max(1, round(2.0 / pixel_mm))) & body & ~result.any(axis=0)
        near &= (numbers == 0) | core
        sharp = near & (filled > edge)
        result[n] = sharp if edge > _SHARP_ENOUGH * noise and sharp.any() else core
    return result


def _cells(points: NDArray[np.float64], side_mm: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the centers (q, 2) of square cells that hold points (n, 2), and the cell of each point."""
    squares, cell = np.unique(np.round(points / side_mm).astype(np.int64), axis=0, return_inverse=True)
    return np.asarray(squares * side_mm, dtype=np.float64), cell.reshape(-1).astype(np.int64)


def _lattice(nodes: NDArray[np.float64], side_mm: float) -> NDArray[np.float64]:
    """Return a hexagonal lattice (b, 2) over nodes (n, 2) of a body, one step beyond its rim."""
    low, high = nodes.min(axis=0) - side_mm, nodes.max(axis=0) + side_mm
    height = side_mm * np.sqrt(3) / 2
    rows = int(np.ceil((high[1] - low[1]) / height)) + 1
    columns = int(np.ceil((high[0] - low[0]) / side_mm)) + 1
    x, y = np.meshgrid(np.arange(columns) * side_mm, np.arange(rows) * height)
    x[1::2] += side_mm / 2
    lattice = np.column_stack([x.ravel(), y.ravel()]) + low
    return lattice[cKDTree(nodes).query(lattice)[0] <= side_mm]


def _blobs(points: NDArray[np.float64], lattice: NDArray[np.float64], sd_mm: float) -> NDArray[np.float64]:
    """Return the Gaussians (n, b) around the lattice points at points (n, 2)."""
    squared = ((points[:, None] - lattice[None]) ** 2).sum(axis=2)
    return np.exp(-0.5 * squared / sd_mm**2)


def _cubic_weights(t: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return for four knots 0, 1, 2, 3 the Lagrange weights of a value at t, and those of its slope."""
    weights = []
    for k in range(4):
        a, b, c = (float(j) for j in range(4) if j != k)
        scale = 1 / ((k - a) * (k - b) * (k - c))
        value = (t - a) * (t - b) * (t - c) * scale
        slope = ((t - b) * (t - c) + (t - a) * (t - c) + (t - a) * (t - b)) * scale
        weights.append((value, slope))
    return weights
