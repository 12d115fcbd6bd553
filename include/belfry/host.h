/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * host: an NVMe host driver over vfio-user, in user space. For tests, tools and programs that want a disk without a VM.
 *
 * Installed as <belfry/host.h> with libbelfry-host.so and a pkg-config file; it includes no other header of Belfry.
 * All names start with belfry_. One struct belfry_host is one connection to one controller.
 *
 * Thread: one thread at a time per host for connection, registers and admin commands; each queue pair may be
 * driven by a thread of its own. No call sleeps for longer than the time-out it was given; polling calls do not sleep.
 * Errors: 0 or -errno; a command's NVMe status is positive (SC and SCT as in the completion, without phase).
 * Lifetime: queue pairs and memory go before their host (belfry_disconnect frees what is left).
 */
#ifndef BELFRY_HOST_H
#define BELFRY_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct belfry_host;

enum belfry_mode {
	BELFRY_AUTO,   /* iommufd when the server offers it */
	BELFRY_LEGACY, /* DMA_MAP, the client chooses IOVAs */
	BELFRY_IOMMUFD, /* server-chosen IOVAs; -EPROTONOSUPPORT if it does not offer them */
};

struct belfry_opts {
	size_t size; /* sizeof(struct belfry_opts): later versions append */
	enum belfry_mode mode;
	unsigned timeout_ms; /* of a message; 0: 5000 */
	bool huge_pages;     /* memory from 2 MiB pages */
	bool no_map_doorbells; /* ring by REGION_WRITE even when BAR0 can be mapped */
};

/* @path: the socket. @opts may be NULL. Negotiates, reads region infos, maps the doorbells, sets bus master. */
int belfry_connect(const char *path, const struct belfry_opts *opts,
		   struct belfry_host **out);
/* The same on a connected socket; takes @fd in every case. */
int belfry_connect_fd(int fd, const struct belfry_opts *opts,
		      struct belfry_host **out);
void belfry_disconnect(struct belfry_host *h);
enum belfry_mode belfry_mode_of(const struct belfry_host *h);
int belfry_socket(
	const struct belfry_host
		*h); /* borrowed; for poll() and for tests that misbehave */

/* Memory that the controller can reach: a memfd, mapped here and there. @len bytes, rounded up to pages; zeroed. */
struct belfry_mem {
	void *va;
	uint64_t iova;
	size_t len;
	int fd;
};
#define BELFRY_MEM_READ 1u  /* the device may read it */
#define BELFRY_MEM_WRITE 2u /* the device may write it */
int belfry_mem_alloc(struct belfry_host *h, size_t len, unsigned prot,
		     struct belfry_mem **out);
/* Unmap and free. -ETIMEDOUT: the server has not let go of it, it is freed at the disconnect; -EBUSY: see below. Else freed, error or not. */
int belfry_mem_free(struct belfry_host *h, struct belfry_mem *m);
/*
 * The two halves of belfry_mem_free, for those who poll queues in the same thread: the server answers an unmap when the last
 * I/O to it has ended. No other message goes out in between. end frees @m unless it gives -ETIMEDOUT (then at the disconnect).
 */
int belfry_mem_free_begin(struct belfry_host *h, struct belfry_mem *m);
int belfry_mem_free_end(struct belfry_host *h, struct belfry_mem *m,
			unsigned timeout_ms);
/* Map a file of the caller's; @fd is borrowed. @iova is used in legacy mode only; m->iova tells. va stays NULL. */
int belfry_mem_map_fd(struct belfry_host *h, int fd, uint64_t off, size_t len,
		      uint64_t iova, unsigned prot, struct belfry_mem **out);

/* Registers of BAR0 (offsets as in NVMe 2.0 §3.1.3) and PCI config space. */
int belfry_reg_read(struct belfry_host *h, uint64_t off, void *buf,
		    uint32_t len);
int belfry_reg_write(struct belfry_host *h, uint64_t off, const void *buf,
		     uint32_t len);
int belfry_config_read(struct belfry_host *h, uint64_t off, void *buf,
		       uint32_t len);
int belfry_config_write(struct belfry_host *h, uint64_t off, const void *buf,
			uint32_t len);

/*
 * Controller. enable: admin queues of @admin_depth entries (0: 32), CC.EN = 1, waits for CSTS.RDY. -ETIMEDOUT, -EIO: CSTS.CFS.
 * After disable, shutdown and reset all queue pairs are dead: push gives -ESHUTDOWN, destroy frees them.
 */
int belfry_enable(struct belfry_host *h, unsigned admin_depth);
int belfry_disable(struct belfry_host *h);  /* CC.EN = 0, waits */
int belfry_shutdown(struct belfry_host *h); /* CC.SHN normal, waits for SHST */
int belfry_device_reset(struct belfry_host *h); /* the DEVICE_RESET message */

/* A submission entry and a completion entry as on the wire. */
struct belfry_sqe {
	uint32_t dw[16];
};
struct belfry_cqe {
	uint32_t dw0, dw1;
	uint16_t sq_head, sqid, cid, status;
};

/*
 * Send and wait. @buf (may be NULL) goes through a bounce page list of @len bytes (at most 1 MiB), to or from the device as the
 * opcode's bits 1:0 say. @cqe may be NULL; @timeout_ms 0: that of messages. 0, the command's status (> 0), or -errno:
 * -ENODEV: not enabled; -ETIMEDOUT: the command may still run; -EIO: CSTS.CFS.
 */
int belfry_admin(struct belfry_host *h, const struct belfry_sqe *sqe, void *buf,
		 uint32_t len, struct belfry_cqe *cqe, unsigned timeout_ms);
/*
 * Send an Asynchronous Event Request; -EAGAIN: 16 are out. Its completion comes from belfry_aer_poll: 1 and *dw0; 0: none yet;
 * -EIO: the controller refused it.
 */
int belfry_aer_submit(struct belfry_host *h);
int belfry_aer_poll(struct belfry_host *h, uint32_t *dw0);

struct belfry_ns {
	uint32_t nsid;
	uint64_t blocks;
	uint32_t block_len;
	uint8_t uuid[16];
};
struct belfry_ctrl_info {
	char serial[21], model[41], firmware[9];
	uint16_t vendor, cntlid;
	uint32_t max_transfer; /* bytes */
	uint32_t namespaces;
	uint16_t oacs, oncs;
};
int belfry_identify(struct belfry_host *h, struct belfry_ctrl_info *out);
int belfry_identify_ns(struct belfry_host *h, uint32_t nsid,
		       struct belfry_ns *out);
/* The next active namespace after @after; 0: no more; < 0: -errno. */
int64_t belfry_next_ns(struct belfry_host *h, uint32_t after);

/*
 * I/O queue pairs; ids are given from 1 up. @iv < 0: no interrupts. @depth entries, so at most @depth - 1 commands in flight.
 * -EINVAL: depth under 2 or over what the controller has; a status > 0 of Create Queue.
 */
struct belfry_qpair;
/* Set Features 07h; @got (pairs) may be less than wanted, or more. */
int belfry_set_queue_count(struct belfry_host *h, unsigned want, unsigned *got);
int belfry_qpair_create(struct belfry_host *h, unsigned depth, int iv,
			struct belfry_qpair **out);
int belfry_qpair_destroy(struct belfry_qpair *q);
unsigned belfry_qpair_id(const struct belfry_qpair *q);

/*
 * The fast path. push copies an entry (its cid is the caller's); -EAGAIN: full. ring tells the controller of all that was
 * pushed. poll calls @done for each completion, at most @max, and gives how many; it frees their slots, so that @done may push,
 * and rings the CQ's head (without interrupts only when a share of the CQ has gathered). The entry that @done gets is a copy;
 * its cid is the controller's word: check it before use. ring and poll give -errno when the doorbell is a message that fails.
 */
int belfry_push(struct belfry_qpair *q, const struct belfry_sqe *sqe);
int belfry_ring(struct belfry_qpair *q);
int belfry_poll(struct belfry_qpair *q, unsigned max,
		void (*done)(void *arg, const struct belfry_cqe *cqe),
		void *arg);

/*
 * rw clears the entry and fills it (@nlb 1-based); prp then says where the data is: [iova, iova + len), @iova a multiple of 4. Over
 * two pages it takes a list: 8 bytes a page at @list, which the controller sees at @list_iova, inside one page.
 * -EINVAL: no list where one is needed, or a bad address; -E2BIG: it does not fit into the list's page.
 */
void belfry_sqe_rw(struct belfry_sqe *sqe, bool write, uint32_t nsid,
		   uint64_t lba, uint32_t nlb, uint16_t cid);
int belfry_sqe_prp(struct belfry_sqe *sqe, uint64_t iova, uint32_t len,
		   uint64_t *list, uint64_t list_iova);

/* Interrupts: @n eventfds on MSI-X vectors 0..n-1; borrowed. n == 0: off. -ERANGE: more than the device has. */
int belfry_irq_count(struct belfry_host *h);
int belfry_irq_enable(struct belfry_host *h, const int *eventfds, unsigned n);
/* Doorbell Buffer Config; -ENOTSUP: not announced. From then on ring and poll use it; no queue pair may be in use meanwhile. */
int belfry_shadow_doorbells(struct belfry_host *h);

/* "Invalid Field in Command", ... for a positive status. */
const char *belfry_status_str(int status);

#ifdef __cplusplus
}
#endif

#endif
