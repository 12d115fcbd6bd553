/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nvme: the NVMe controller: registers, queues, admin and NVM command sets. NVMe Base 2.0, NVM Command Set 1.0,
 * NVMe over PCIe Transport 1.0. It knows neither sockets nor vfio-user: it reads an ioas view and raises irqs.
 *
 * struct nvme_subsys (identity, namespaces) belongs to the control reactor; a struct nvme_ctrl is made per client
 * and lives on its home reactor. Namespace changes travel from the one to the others by messages.
 *
 * The part of a controller that lives on one reactor is a group (lib/nvme/internal.h): its queues, its view of the address
 * space, its channels to the bdevs. Per reactor one poller (lib/nvme/poll.c) serves all groups there.
 */
#ifndef BELFRY_NVME_H
#define BELFRY_NVME_H

#include "belfry/bdev.h"
#include "belfry/ioas.h"
#include "belfry/irq.h"

#define NVME_BAR0_LEN 16384
#define NVME_DB_OFFSET 4096 /* doorbells, stride 4 bytes (CAP.DSTRD 0) */
#define NVME_DB_LEN 4096    /* one page: 512 queue pairs at most; mappable */
#define NVME_MAX_IO_QUEUES 128
#define NVME_MAX_NS 1024

struct nvme_subsys;
struct nvme_ctrl;

/* ---- subsystem: control reactor ---- */
struct nvme_subsys_config {
	const char *nqn;    /* checked: NVMe 2.0 §4.5 NQN format; -EINVAL */
	const char *serial; /* <= 20 */
	const char *model;  /* <= 40 */
	uint32_t max_namespaces; /* 1..1024 */
	uint16_t min_cntlid, max_cntlid;
	bool enable_nssr;
	uint16_t vendor, sub_vendor; /* as the PCI face says; 0: the default */
};
int nvme_subsys_create(const struct nvme_subsys_config *cfg,
		       struct nvme_subsys **out);
void nvme_subsys_destroy(
	struct nvme_subsys *s); /* no controller, no namespace is left */

struct nvme_ns_config {
	const char *bdev_name;
	uint32_t nsid; /* 0: the lowest free one */
	bool has_nguid, has_eui64, has_uuid;
	uint8_t nguid[16], eui64[8];
	uuid_t uuid; /* else the bdev's */
};
struct nvme_ns_info {
	struct nvme_ns_config
		cfg; /* effective; strings good while the namespace is */
	struct bdev_info bdev;
	bool removing;
};
/* Later answers on the control reactor, when every controller has taken the change (and drained what it took away). */
struct nvme_op {
	void (*done)(struct nvme_op *op, int err);
	char error[256];
	uint32_t nsid; /* out of add */
};
/* 0, -EINPROGRESS, or -errno with op->error: -EEXIST nsid taken, -ENOSPC full, -ENODEV no such bdev, -EINVAL. */
int nvme_subsys_add_ns(struct nvme_subsys *s, const struct nvme_ns_config *cfg,
		       struct nvme_op *op);
int nvme_subsys_remove_ns(struct nvme_subsys *s, uint32_t nsid,
			  struct nvme_op *op); /* -ENOENT */
uint32_t nvme_subsys_next_ns(const struct nvme_subsys *s, uint32_t after,
			     struct nvme_ns_info *out); /* nsid, 0: no more */

struct nvme_ctrl_info {
	uint16_t cntlid;
	unsigned num_io_qpairs;
	struct reactor *home;
	uint32_t cc, csts;
	uint32_t tag; /* of nvme_ctrl_config */
};
struct nvme_qpair_info {
	uint16_t cntlid, qid;
	uint32_t depth;
	struct reactor *reactor;
	uint32_t tag; /* of nvme_ctrl_config */
};
/* Snapshots, kept by the controllers' reports; control reactor. Give how many were filled, at most @max. */
unsigned nvme_subsys_ctrls(const struct nvme_subsys *s,
			   struct nvme_ctrl_info *out, unsigned max);
unsigned nvme_subsys_qpairs(const struct nvme_subsys *s,
			    struct nvme_qpair_info *out, unsigned max);

/* ---- controller: its home reactor, unless said otherwise ---- */
struct nvme_ctrl_config {
	struct nvme_subsys *subsys;
	struct reactor *home;  /* this reactor */
	struct ioas_ctx *ioas; /* borrowed until nvme_ctrl_destroy's done */
	struct irq_set *irqs;  /* likewise */
	uint16_t io_queues;    /* pairs offered, 1..128 */
	uint32_t max_depth; /* entries of an I/O queue, 2..4096: CAP.MQES + 1 */
	uint32_t max_io_size;  /* MDTS, power of two, <= 1 MiB */
	uint32_t max_aq_depth; /* admin commands at once, within 8..64; a deeper queue works, its entries wait */
	bool map_doorbells; /* clients may mmap them; else trapped, and Doorbell Buffer Config is announced */
	bool shadow_doorbells; /* false: never announce */
	bool adaptive_irq; /* MSI-X interrupts adapt to the host; else each is raised at the end of its round */
	uint16_t vendor, sub_vendor;
	uint16_t vectors;
	uint32_t tag; /* the owner's word (which listener), shown in nvme_ctrl_info */
	/*
	 * CSTS.CFS was set for good (truncated memory, dead irq): throw the client out, and log why, which
	 * is a constant. NULL: the controller logs it.
	 */
	void (*failed)(void *arg, const char *why);
	void (*intx_changed)(
		void *arg,
		bool level); /* for the PCI status bit; may be NULL */
	void *arg;
};
/*
 * @done(arg, ctrl or NULL, err) later, never from inside: the namespace table comes from the control reactor. The controller starts
 * disabled. 0; -ENOMEM: not even that much memory, @done is not called.
 */
int nvme_ctrl_create(const struct nvme_ctrl_config *cfg,
		     void (*done)(void *arg, struct nvme_ctrl *ctrl, int err),
		     void *arg);
/* Stop fetching, wait for all I/O (a hung disk may keep it), free, then @done(arg). No host memory is touched afterwards. */
void nvme_ctrl_destroy(struct nvme_ctrl *ctrl, void (*done)(void *arg),
		       void *arg);

/* BAR0. Any length and alignment a client can send: registers answer as NVMe over PCIe 1.0 §3.1 says; the rest reads zero. */
int nvme_ctrl_read(struct nvme_ctrl *ctrl, uint64_t off, void *buf,
		   uint32_t len);
int nvme_ctrl_write(struct nvme_ctrl *ctrl, uint64_t off, const void *buf,
		    uint32_t len);
/*
 * The sealed memfd of NVME_BAR0_LEN bytes whose page at NVME_DB_OFFSET is the doorbell page (a client maps BAR0's sparse area
 * at fd offset 0 + NVME_DB_OFFSET); borrowed. -1: doorbells are not mappable.
 */
int nvme_ctrl_doorbell_fd(const struct nvme_ctrl *ctrl);

enum nvme_reset {
	NVME_RESET_FUNCTION, /* FLR, DEVICE_RESET, D3hot->D0: as power-on, registers included */
	NVME_RESET_SUBSYS, /* NSSR */
};
/*
 * Drain, reset, then @done(arg), never from inside; NULL: nobody waits. A second one while one runs waits for the same end;
 * no more than NVME_MAX_RESETS at once.
 */
#define NVME_MAX_RESETS 2
void nvme_ctrl_reset(struct nvme_ctrl *ctrl, enum nvme_reset kind,
		     void (*done)(void *arg), void *arg);
/* SET_IRQS or the PCI Interrupt Disable bit changed: recompute the INTx level. */
void nvme_ctrl_update_intx(struct nvme_ctrl *ctrl, bool disabled);

/* Each reactor, once, before its first controller: registers the poller of lib/nvme/poll.c. */
int nvme_core_init(struct reactor *r);
void nvme_core_fini(struct reactor *r);

/* Statistics of a reactor's poller, there (nvmf_get_stats). */
struct nvme_core_stats {
	uint32_t ctrls, io_queues;
	uint64_t admin_queues_total, io_queues_total;
	uint64_t commands, admin_commands, polls, polls_spurious, pending_io,
		irqs;
};
void nvme_core_get_stats(const struct reactor *r, struct nvme_core_stats *out);

#endif
