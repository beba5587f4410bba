package apps

import "github.com/tiphys/tiphys/deploy"

// ignored are the kinds that the Application has kept without effect. An annotation that cannot be read names none; that is said when it is
// looked at what is wanted. What is written on a manifest of the sources is never asked.
func (w *worker) ignored() deploy.Ignored {
	list, err := deploy.ReadIgnored(w.row.Annotations[deploy.AnnotationIgnoreKinds])
	if err != nil {
		return nil
	}
	return list
}
