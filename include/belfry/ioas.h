/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * IOAS: the client's I/O address spaces. IOVA ranges to host memory.
 *
 * One struct ioas_ctx per connection: its arena, its quota, its IOASes, and what its (only) device
 * is attached to. lib/vfio_user fills it (DMA_MAP and UNMAP, or commands 19 to 26); lib/nvme asks the
 * device's view about every PRP, SGL and queue address that the guest hands us.
 *
 * Two modes, fixed at creation:
 *   iommufd  each mapping has its own mmap in the arena; its address is the IOVA (delta 0).
 *   legacy   the client chooses the IOVA; an extent points into a window, a 1 GiB aligned piece of the
 *            client's file (by st_dev, st_ino, and protection), mapped on first use, gone with the last
 *            extent in it. A map or unmap whose window stands costs no system call. IOAS 1 exists and is
 *            attached from the start.
 *
 * Thread: the context's home reactor changes it. Views are read by the home reactor; a module that needs
 * the table on another reactor keeps a replica fed by a listener (the events carry all that it takes).
 * mmap and munmap run on WORK_CONTROL: such calls answer later, through an op. So do closes, for an fd that was
 * accepted is memory, whose close asks nobody; with allow_any_fs they run on WORK_CLOSE.
 * Lifetime: a host pointer is good while the request that asked for it runs: unmap answers only when
 * every listener has said that no such request is left.
 */
#ifndef BELFRY_IOAS_H
#define BELFRY_IOAS_H

#include <errno.h>
#include <sys/uio.h>

#include "belfry/reactor.h"

typedef uint64_t iova_t; /* a guest address; never a pointer */

#define IOAS_READ \
	1u /* the device may read it: NVMe writes, rings of an SQ, PRP lists */
#define IOAS_WRITE 2u /* the device may write it: NVMe reads, rings of a CQ */
#define IOAS_NOHOST \
	4u /* mapped without an fd: known, not reachable (legacy only) */

struct ioas_ctx;

struct ioas_extent {
	iova_t iova;
	uint64_t len;
	uint64_t delta; /* host address = iova + delta (mod 2^64) */
	uint32_t prot;
};

/* Limits of one connection; 0 takes the default in brackets. Current use beside, for RPC. */
struct ioas_limits {
	uint64_t arena_len;   /* address space reserved [256 GiB] */
	uint32_t max_ioas;    /* [64] */
	uint32_t max_extents; /* over all IOASes [65535] */
	uint32_t max_vmas;    /* mmaps: windows, or iommufd mappings [1024] */
	bool allow_any_fs; /* also files on FUSE, NFS, ...: the operator's word */
};
struct ioas_usage {
	uint64_t arena_used;
	uint32_t ioas, extents, vmas,
		fds;	       /* fds: of the client, kept open (iommufd) */
	uint64_t maps, unmaps; /* since creation */
};

/*
 * An answer that comes later. The caller embeds it, keeps it alive until @done, which runs
 * on the home reactor. A function that takes one gives 0 (done at once, @done not called), -EINPROGRESS
 * (@done will be called with the same meaning of err), or an error (nothing changed, @done not called).
 */
struct ioas_op {
	void (*done)(struct ioas_op *op, int err);
	iova_t iova; /* out of ioas_map and ioas_copy: where it went */
};

enum ioas_mode { IOAS_LEGACY, IOAS_IOMMUFD };

/* Reserves the arena. -ENOMEM: no address space; -errno. @limits may be NULL. */
int ioas_ctx_create(struct reactor *home, enum ioas_mode mode,
		    const struct ioas_limits *limits, struct ioas_ctx **out);
/*
 * Drop every mapping and free the context. Listeners must be gone. Ops that run are finished first (their done is called
 * with -ECANCELED). @done(arg) runs on the home reactor when all memory has been given back.
 */
void ioas_ctx_destroy(struct ioas_ctx *ctx, void (*done)(void *arg), void *arg);
void ioas_ctx_usage(const struct ioas_ctx *ctx, struct ioas_usage *out);
enum ioas_mode ioas_ctx_mode(const struct ioas_ctx *ctx);

/* The heads of struct ioas_view and of struct ioas_ctx, for the inline checks here. */
struct ioas_view_head {
	uint64_t gen; /* changes whenever anything leaves the view; never 0, never the same again */
};
struct ioas_ctx_head {
	struct ioas_view_head view;
	const uint32_t *faulted;
};

/* A client truncated a file under us (SIGBUS was handled, zeros were mapped). Any thread; sticky. */
static inline bool
ioas_faulted(const struct ioas_ctx *ctx)
{
	return __atomic_load_n(((const struct ioas_ctx_head *)ctx)->faulted,
			       __ATOMIC_ACQUIRE);
}
/* Mark it so; for who learns of it otherwise (EFAULT from libaio). Any thread. */
void ioas_set_faulted(struct ioas_ctx *ctx);
/* @fn(arg) runs on the home reactor once, soon after the first fault. NULL clears. */
void ioas_on_fault(struct ioas_ctx *ctx, void (*fn)(void *arg), void *arg);

/* Install the SIGBUS handler for all arenas, once a process. A SIGBUS elsewhere still kills. */
int ioas_sigbus_init(void);

/*
 * Address spaces (iommufd). Ids count from 1 and are not reused while the connection lives.
 * alloc: -ENOSPC at max_ioas. destroy: -ENOENT unknown, -EBUSY attached; drops its mappings.
 */
int ioas_alloc(struct ioas_ctx *ctx, uint32_t *id);
int ioas_destroy(struct ioas_ctx *ctx, uint32_t id, struct ioas_op *op);

/*
 * Map @len bytes of @fd at @off; -1, in legacy mode only: IOAS_NOHOST. Takes @fd, but for an error told at once: then it is
 * the caller's still (and may be anything, so that only the caller's client should wait for its close).
 * Legacy: at @iova. An exact duplicate (same iova, len, off, file, prot) succeeds; any other overlap -EEXIST.
 * iommufd: the server chooses, @op->iova tells; @iova is ignored. Any @off: the IOVA has its place within the page.
 * @prot: IOAS_READ | IOAS_WRITE. -EINVAL: empty, not page-aligned (len; in legacy also iova and off),
 * wrapping, off + len over st_size, a file that is no memory (see DESIGN.md), no prot;
 * -ENOENT unknown IOAS; -ENOSPC over quota or arena full; -EACCES: fd not open for what @prot asks (mmap wants it
 * readable, always); -EPERM: sealed against writing; other -errno of mmap.
 */
int ioas_map(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len,
	     int fd, uint64_t off, uint32_t prot, struct ioas_op *op);

/*
 * Unmap every mapping that lies wholly inside [iova, iova + len). Answers when no I/O touches them any more.
 * -EINVAL (legacy) / -ENOENT (iommufd): would split one; nothing changes. None inside: 0 in legacy, -ENOENT in iommufd.
 * len is a 64-bit count; [iova, iova + len) may reach 2^64 exactly. Wraps: -EINVAL.
 */
int ioas_unmap(struct ioas_ctx *ctx, uint32_t id, iova_t iova, uint64_t len,
	       struct ioas_op *op);
int ioas_unmap_all(struct ioas_ctx *ctx, uint32_t id, struct ioas_op *op);

/*
 * iommufd IOAS_COPY: share [src_iova, +len), which must lie in one mapping, into @dst; @op->iova tells where.
 * -ENOENT unknown IOAS or no such range; -EPERM: IOAS_WRITE of a read-only mapping; -ENOSPC; -EINVAL.
 */
int ioas_copy(struct ioas_ctx *ctx, uint32_t src, iova_t src_iova, uint64_t len,
	      uint32_t dst, uint32_t prot, struct ioas_op *op);

/*
 * The device. bind: -EEXIST when bound. attach: -EINVAL not bound, -ENOENT unknown; replaces what was attached.
 * detach: -EINVAL not bound or not attached. attach and detach wait for the I/O in flight on the old IOAS.
 * Listeners see unmap of all that was there, then map of all that is.
 */
int ioas_bind(struct ioas_ctx *ctx, uint32_t *devid);
int ioas_attach(struct ioas_ctx *ctx, uint32_t id, struct ioas_op *op);
int ioas_detach(struct ioas_ctx *ctx, struct ioas_op *op);

/*
 * Listeners: whoever caches something of the attached address space (rings, shadow doorbells, replicas).
 * map: an extent has come (also as a replay on attach and on adding the listener: of all but what an unmap takes that is under way).
 * Neither may call the functions above; a listener may remove itself in them, not another.
 * unmap: all that goes by one call of the above, in order of IOVA: it is out of the view already; host memory still stands. Forget
 * what is cached, refuse new use; when no I/O touches any of it: ioas_unmap_ack(u) (at once, or later, exactly once, home reactor).
 * @e stays until then.
 */
struct ioas_unmap; /* a listener's part of one unmap that is under way; lives until every listener has acked */
struct ioas_listener {
	void (*map)(struct ioas_listener *l, const struct ioas_extent *e);
	void (*unmap)(struct ioas_listener *l, const struct ioas_extent *e,
		      uint32_t n, struct ioas_unmap *u);
	struct list node;
	struct list owed; /* lib/ioas: acks to come */
};
void ioas_unmap_ack(struct ioas_unmap *u);
void ioas_listen(struct ioas_ctx *ctx, struct ioas_listener *l); /* replays */
void ioas_unlisten(struct ioas_ctx *ctx,
		   struct ioas_listener *l); /* acks what it still owed */

/*
 * The view: what the device sees now. Empty when detached. Stable pointer for the life of the context.
 */
struct ioas_view;
struct ioas_view *ioas_ctx_view(struct ioas_ctx *ctx);

/* The extent that a user hit last. Zero-initialise. Good as long as gen matches the view's. */
struct ioas_hit {
	iova_t iova;
	uint64_t len;
	uint64_t delta;
	uint64_t gen;
	uint32_t prot;
};

/*
 * Host pointer of [iova, iova + len), which must lie in one extent with all of @prot.
 * NULL: no such; ioas_iov() tells more. @len > 0. The slow half searches, O(log n), and refreshes @hit.
 */
void *ioas_translate_slow(struct ioas_view *v, struct ioas_hit *hit,
			  iova_t iova, uint64_t len, uint32_t prot);

/* Only the extent that was hit last. */
static inline void *
ioas_translate_hit(struct ioas_view *v, const struct ioas_hit *hit, iova_t iova,
		   uint64_t len, uint32_t prot)
{
	uint64_t off = iova - hit->iova;

	if (likely(off < hit->len && len <= hit->len - off &&
		   hit->gen == ((struct ioas_view_head *)v)->gen &&
		   (hit->prot & (prot | IOAS_NOHOST)) == prot))
		return (void *)(uintptr_t)(iova + hit->delta);
	return NULL;
}

static inline void *
ioas_translate(struct ioas_view *v, struct ioas_hit *hit, iova_t iova,
	       uint64_t len, uint32_t prot)
{
	void *host = ioas_translate_hit(v, hit, iova, len, prot);

	return likely(host != NULL)
		       ? host
		       : ioas_translate_slow(v, hit, iova, len, prot);
}

/*
 * Append the host pieces of [iova, iova + len), over adjacent extents too, to @iov[*cnt ..max). Merges with the
 * piece before where host memory continues. 0; -EFAULT: a hole, wrong permission, memory without an fd, wraps; -E2BIG: @max.
 * On error *cnt is as before.
 */
int ioas_iov(struct ioas_view *v, struct ioas_hit *hit, iova_t iova,
	     uint64_t len, uint32_t prot, struct iovec *iov, unsigned max,
	     unsigned *cnt);

/*
 * A replica: the view of another reactor. Its owner feeds it with what a listener on the home reactor was told (and acks
 * there when it has taken the extent out and no I/O of its reactor touches it). Lookups as on the context's own view.
 */
int ioas_replica_create(struct ioas_view **out); /* -ENOMEM */
void ioas_replica_destroy(struct ioas_view *v);
int
ioas_replica_map(struct ioas_view *v,
		 const struct ioas_extent *e); /* -ENOMEM; -EEXIST: overlaps */
void ioas_replica_unmap(struct ioas_view *v, const struct ioas_extent *e);

/* Did any of [iova, iova + len) leave the view in the last 100 ms? Then a command that names it waits (GUEST.md, 4). */
bool ioas_recently_unmapped(struct ioas_view *v, iova_t iova, uint64_t len);

#endif
