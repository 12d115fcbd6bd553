/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An endpoint: one socket = one vfio-user session at a time = one NVMe controller with its PCI face. The only file that sees
 * both vfio_user and nvme. Not for names and addresses: listener.c.
 *
 * The endpoint lives on its home reactor; listener.c, on the control reactor, holds the pointer and talks by messages.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>

#include "internal.h"

#define DEFAULT_ARENA (256ull << 30)

struct endpoint {
	struct list node; /* homes[] */
	struct reactor *home;
	struct vu_listener *vu;
	struct endpoint_config cfg;
	struct device *device; /* of the client that is served now */
	struct reactor_msg stop_msg;
	struct reactor_msg admit_msg;
	bool admit; /* written by the control reactor, read at home */
	bool admit_sent, admit_again;
	void (*stopped)(void *arg);
	void *stopped_arg;
};

/* A session's device: fresh for each client. */
struct device {
	struct endpoint *ep;
	struct vu_session *session;
	struct nvme_ctrl *ctrl;
	struct irq_set *irqs;
	struct pci_dev pci;
	bool reset_runs;   /* nvme_ctrl_reset() has not called back */
	bool reset_inside; /* we are still in the call that started it */
	bool closing;
	bool leave; /* the session is told to go, once */
};

/* Endpoints by home; each list is its reactor's. */
static struct list homes[REACTOR_MAX];

static struct list *
home_list(const struct reactor *r)
{
	struct list *l = &homes[reactor_index(r)];

	if (!l->next)
		list_init(l);
	return l;
}

/* ---- the device's life ---- */

static void
device_failed(void *arg, const char *why)
{
	struct device *d = arg;
	char text[128];

	if (d->leave || d->closing)
		return;
	d->leave = true;
	snprintf(text, sizeof(text), "its controller failed: %s", why);
	vu_disconnect(d->session, text);
}

static void
device_intx(void *arg, bool level)
{
	struct device *d = arg;

	pci_set_intx_status(&d->pci, level);
}

static void
device_admit(struct device *d)
{
	if (__atomic_load_n(&d->ep->admit, __ATOMIC_ACQUIRE) || d->leave ||
	    d->closing)
		return;
	d->leave = true;
	vu_disconnect(d->session, "no host is allowed any more");
}

static void
device_created(void *arg, struct nvme_ctrl *ctrl, int err)
{
	struct device *d = arg;
	struct vu_session *session = d->session;

	if (!ctrl) {
		log_error("nvme: no controller for a new client: %s",
			  strerror(-err));
		d->ep->device = NULL;
		free(d);
		vu_opened(session, NULL, err ? err : -ENOMEM);
		return;
	}
	d->ctrl = ctrl;
	vu_opened(session, d, 0);
	/* the hosts may have changed since device_open() looked */
	device_admit(d);
}

static int
device_open(void *owner, struct vu_session *s, struct ioas_ctx *ioas,
	    struct irq_set *irqs, void **dev)
{
	struct endpoint *ep = owner;
	const struct transport *t = &ep->cfg.transport;
	struct nvme_ctrl_config cfg = {
		.subsys = ep->cfg.subsys,
		.home = ep->home,
		.ioas = ioas,
		.irqs = irqs,
		.io_queues = t->max_io_qpairs,
		.max_depth = t->max_queue_depth,
		.max_io_size = t->max_io_size,
		.max_aq_depth = t->max_aq_depth,
		.map_doorbells = !t->flags.disable_mappable_bar0,
		.shadow_doorbells = t->flags.disable_mappable_bar0 &&
				    !t->flags.disable_shadow_doorbells,
		.adaptive_irq = !t->flags.disable_adaptive_irq,
		.vectors = t->max_io_qpairs + 1,
		.tag = ep->cfg.tag,
		.failed = device_failed,
		.intx_changed = device_intx,
	};
	struct device *d;
	int err;

	if (!__atomic_load_n(&ep->admit, __ATOMIC_ACQUIRE))
		return -EACCES;
	d = calloc(1, sizeof(*d));
	if (!d)
		return -ENOMEM;
	d->ep = ep;
	d->session = s;
	d->irqs = irqs;
	pci_init(&d->pci, &ep->cfg.ids, cfg.vectors, NVME_BAR0_LEN);
	/* config space and Identify name the same maker */
	memcpy(&cfg.vendor, d->pci.config + PCI_VENDOR_ID, 2);
	memcpy(&cfg.sub_vendor, d->pci.config + PCI_SUBSYSTEM_VENDOR_ID, 2);
	cfg.arg = d;
	ep->device = d;
	err = nvme_ctrl_create(&cfg, device_created, d);
	if (err) {
		ep->device = NULL;
		free(d);
		return err;
	}
	return -EINPROGRESS;
}

static void
device_destroyed(void *arg)
{
	struct device *d = arg;
	struct vu_session *session = d->session;

	free(d);
	vu_closed(session);
}

static void
device_close(void *dev)
{
	struct device *d = dev;

	d->closing = true;
	if (d->ep->device == d)
		d->ep->device = NULL;
	/* else reset_done() comes here again: a controller is not taken down in the middle of its reset */
	if (!d->reset_runs)
		nvme_ctrl_destroy(d->ctrl, device_destroyed, d);
}

/* ---- resets ---- */

static void
update_intx(struct device *d)
{
	nvme_ctrl_update_intx(d->ctrl, pci_intx_disabled(&d->pci));
}

static void
reset_done(void *arg)
{
	struct device *d = arg;

	d->reset_runs = false;
	if (d->closing) {
		nvme_ctrl_destroy(d->ctrl, device_destroyed, d);
		return;
	}
	pci_reset(&d->pci);
	irq_reset(d->irqs);
	update_intx(d);
	if (!d->reset_inside)
		vu_complete(d->session, 0);
}

/* DEVICE_RESET and FLR are answered when the controller is as new: the client may touch it at once. */
static int
device_reset(void *dev)
{
	struct device *d = dev;

	d->reset_runs = true;
	d->reset_inside = true;
	nvme_ctrl_reset(d->ctrl, NVME_RESET_FUNCTION, reset_done, d);
	d->reset_inside = false;
	return d->reset_runs ? -EINPROGRESS : 0;
}

/* ---- regions ---- */

static bool
asleep(const struct device *d)
{
	/* D3hot: the function answers config cycles only (PCI PM 1.2 §5.4.1) */
	return (d->pci.config[d->pci.pm_cap + PCI_PM_CTRL] &
		PCI_PM_CTRL_STATE_MASK) == 3;
}

static void
device_region_info(void *dev, unsigned index, struct vu_region *out)
{
	struct device *d = dev;

	*out = (struct vu_region){ .fd = -1 };
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		out->len = NVME_BAR0_LEN;
		out->fd = nvme_ctrl_doorbell_fd(d->ctrl);
		if (out->fd >= 0) {
			out->map_off = NVME_DB_OFFSET;
			out->map_len = NVME_DB_LEN;
		}
		break;
	case PCI_BAR_MSIX:
	case PCI_BAR_PBA:
		out->len = d->pci.bar_len[index];
		break;
	case VU_REGION_CONFIG:
		out->len = PCI_CONFIG_LEN;
		break;
	}
	out->read = out->write = out->len != 0;
}

static int
device_read(void *dev, unsigned index, uint64_t off, void *buf, uint32_t len)
{
	struct device *d = dev;

	if (index == VU_REGION_CONFIG)
		return pci_config_read(&d->pci, off, buf, len);
	if (asleep(d)) {
		memset(buf, 0xff, len);
		return 0;
	}
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		return nvme_ctrl_read(d->ctrl, off, buf, len);
	case PCI_BAR_MSIX:
		return pci_msix_read(&d->pci, off, buf, len);
	case PCI_BAR_PBA:
		return pci_pba_read(&d->pci, off, buf, len);
	default:
		return -EINVAL;
	}
}

static int
config_write(struct device *d, uint64_t off, const void *buf, uint32_t len)
{
	int events = pci_config_write(&d->pci, off, buf, len);

	if (events < 0)
		return events;
	if (events & PCI_EVENT_FLR)
		return device_reset(d);
	if (events & PCI_EVENT_INTX)
		update_intx(d);
	/*
	 * PCI_EVENT_POWER: No_Soft_Reset is set, D0 finds the controller as D3hot left it. PCI_EVENT_MSIX: the client's
	 * SET_IRQS binds and masks; the enable bit alone signals nothing.
	 */
	return 0;
}

static int
device_write(void *dev, unsigned index, uint64_t off, const void *buf,
	     uint32_t len)
{
	struct device *d = dev;

	if (index == VU_REGION_CONFIG)
		return config_write(d, off, buf, len);
	if (asleep(d))
		return 0;
	switch (index) {
	case VFIO_PCI_BAR0_REGION_INDEX:
		return nvme_ctrl_write(d->ctrl, off, buf, len);
	case PCI_BAR_MSIX:
		return pci_msix_write(&d->pci, off, buf, len);
	case PCI_BAR_PBA:
		return 0; /* read-only; a write is dropped, as on a bus */
	default:
		return -EINVAL;
	}
}

static void
device_irqs_changed(void *dev)
{
	update_intx(dev);
}

static const struct vu_device_ops device_ops = {
	.open = device_open,
	.close = device_close,
	.region_info = device_region_info,
	.region_read = device_read,
	.region_write = device_write,
	.reset = device_reset,
	.irqs_changed = device_irqs_changed,
};

/* ---- the endpoint: home reactor ---- */

static void
start_answer(struct reactor_msg *m)
{
	struct endpoint_start *s = container_of(m, struct endpoint_start, msg);

	s->done(s, s->ep, s->err);
}

static int
start_listening(struct endpoint *ep)
{
	struct vu_listener_config cfg = {
		.path = ep->cfg.path,
		.mode = ep->cfg.mode,
		.uid = ep->cfg.uid,
		.gid = ep->cfg.gid,
		.msix = ep->cfg.transport.max_io_qpairs + 1u,
		/* the defaults of belfry/ioas.h, said here so that RPC can tell them */
		.limits = { .arena_len = ep->cfg.arena_len ? ep->cfg.arena_len
							   : DEFAULT_ARENA,
			    .max_ioas = 64,
			    .max_extents = 65535,
			    .max_vmas = 1024 },
		.ops = &device_ops,
		.owner = ep,
	};

	return vu_listen(ep->home, &cfg, &ep->vu);
}

static void
start_at_home(struct reactor_msg *m)
{
	struct endpoint_start *s = container_of(m, struct endpoint_start, msg);
	struct endpoint *ep = calloc(1, sizeof(*ep));

	s->err = -ENOMEM;
	if (ep) {
		ep->home = s->home;
		ep->cfg = s->cfg;
		ep->admit = s->cfg.admit;
		s->err = start_listening(ep);
		ep->cfg.path = NULL;
		if (s->err) {
			free(ep);
			ep = NULL;
		} else {
			list_push_back(home_list(s->home), &ep->node);
		}
	}
	s->ep = ep;
	s->msg.fn = start_answer;
	reactor_send(reactor_get(0), &s->msg);
}

void
endpoint_start(struct endpoint_start *s)
{
	s->msg.fn = start_at_home;
	reactor_send(s->home, &s->msg);
}

static void
stop_answer(struct reactor_msg *m)
{
	struct endpoint *ep = container_of(m, struct endpoint, stop_msg);
	void (*stopped)(void *arg) = ep->stopped;
	void *arg = ep->stopped_arg;

	free(ep);
	stopped(arg);
}

static void
unlistened(void *arg)
{
	struct endpoint *ep = arg;

	ep->stop_msg.fn = stop_answer;
	reactor_send(reactor_get(0), &ep->stop_msg);
}

static void
stop_at_home(struct reactor_msg *m)
{
	struct endpoint *ep = container_of(m, struct endpoint, stop_msg);

	list_remove(&ep->node);
	vu_unlisten(ep->vu, unlistened, ep);
}

void
endpoint_stop(struct endpoint *ep, void (*done)(void *arg), void *arg)
{
	ep->stopped = done;
	ep->stopped_arg = arg;
	/* the answer to the last one comes before ours; what it sent then would come after us */
	ep->admit_again = false;
	ep->stop_msg.fn = stop_at_home;
	reactor_send(ep->home, &ep->stop_msg);
}

static void
admit_answer(struct reactor_msg *m)
{
	struct endpoint *ep = container_of(m, struct endpoint, admit_msg);

	ep->admit_sent = false;
	if (ep->admit_again)
		endpoint_admit(ep, ep->admit);
}

static void
admit_at_home(struct reactor_msg *m)
{
	struct endpoint *ep = container_of(m, struct endpoint, admit_msg);

	if (ep->device && ep->device->ctrl)
		device_admit(ep->device);
	m->fn = admit_answer;
	reactor_send(reactor_get(0), m);
}

void
endpoint_admit(struct endpoint *ep, bool admit)
{
	__atomic_store_n(&ep->admit, admit, __ATOMIC_RELEASE);
	/* a message that is on its way may have looked already */
	ep->admit_again = ep->admit_sent;
	if (ep->admit_sent)
		return;
	ep->admit_sent = true;
	ep->admit_msg.fn = admit_at_home;
	reactor_send(ep->home, &ep->admit_msg);
}

void
endpoint_each(struct reactor *r,
	      void (*fn)(const struct endpoint_client *c, void *arg), void *arg)
{
	struct endpoint_client client;
	struct endpoint *ep;

	list_for_each(ep, home_list(r), node) {
		client = (struct endpoint_client){ .tag = ep->cfg.tag };
		client.connected = vu_client(ep->vu, &client.info);
		fn(&client, arg);
	}
}
